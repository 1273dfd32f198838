"""Commands that are ended from outside, or begin with less than they need."""

import signal
import subprocess
import sys

import pytest

ENDINGS = [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]


def program(command: str) -> list[str]:
    code = f"import sys, time\nfrom ggufpy.commands.console import run_command\n{command}\n"
    return [sys.executable, "-c", code + "raise SystemExit(run_command(command))"]


@pytest.mark.parametrize("number", ENDINGS)
def test_signals_clean_up_and_a_second_one_ends(number: signal.Signals) -> None:
    stubborn = """def command():
    state = "ready"
    while True:
        try:
            print(state, flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            state = 'caught'"""
    with subprocess.Popen(program(stubborn), stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        running.send_signal(number)
        assert running.stdout.readline() == "caught\n"
        running.send_signal(number)
        assert running.wait(30) == -number


def test_seconds_end_what_does_not_listen() -> None:
    deaf = """from ggufpy.commands import console
console._GRACE = 0.1
def command():
    while True:
        try:
            print("ready", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            pass"""
    with subprocess.Popen(program(deaf), stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None and running.stdout.readline() == "ready\n"
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == -signal.SIGALRM


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed: str) -> None:
    opened = 'def command():\n    assert open("/dev/null").fileno() > 2\n    print("x")\n    return 0'
    line = " ".join(["exec", '"$@"', closed])
    assert subprocess.run(["sh", "-c", line, "sh", *program(opened)], check=False).returncode == 0


def test_a_full_disk_behind_stdout() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            program('def command():\n    print("x")\n    return 0'),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_an_interrupt_while_a_command_loads() -> None:
    slow = """from ggufpy.commands.console import start
from importlib.abc import MetaPathFinder
class Slow(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        print("loading", flush=True)
        time.sleep(60)
sys.meta_path.insert(0, Slow())
raise SystemExit(start("run"))"""
    code = "import sys, time\n" + slow
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None and running.stderr is not None
        assert running.stdout.readline() == "loading\n"
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 130
        assert running.stderr.read() == "interrupted\n"
