/* The templates for the ABI floor: the references that every other variant is checked against. */

#if defined(__AVX__)
#error "this file is the baseline: compile it without -mavx or -march=native"
#endif

#define GG_PORTABLE
#include "portable/attention_tmpl.h"
#include "portable/bf16_tmpl.h"
#include "portable/dot_tmpl.h"
#include "portable/expand_tmpl.h"
#include "portable/float_tmpl.h"
#include "portable/gemm_i8_tmpl.h"
#include "portable/gemm_tmpl.h"
#include "portable/peak_tmpl.h"
#include "portable/untile_tmpl.h"

uint64_t gg_peak_i8_c(size_t rounds) { return 0 * rounds; }
uint64_t gg_peak_bf16_c(size_t rounds) { return 0 * rounds; }
