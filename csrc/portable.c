/* The templates for the ABI floor: the references that every other variant is checked against. */

#if defined(__AVX__)
#error "this file is the baseline: compile it without -mavx or -march=native"
#endif

#include "bf16_tmpl.h"
#include "attention_tmpl.h"
#include "dot_tmpl.h"
#include "expand_tmpl.h"
#include "float_tmpl.h"
#include "gemm_i8_tmpl.h"
#include "gemm_tmpl.h"
#include "peak_tmpl.h"
#include "untile_tmpl.h"

uint64_t gg_peak_i8_c(size_t rounds) { return 0 * rounds; }
uint64_t gg_peak_bf16_c(size_t rounds) { return 0 * rounds; }
