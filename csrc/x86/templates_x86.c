/* The templates once more, for the instruction set that this file's library is compiled for. */

#if !defined(__AVX2__) || !defined(__FMA__) || !defined(__F16C__)
#error "compile this file with -mavx2 -mfma -mf16c, and the AVX-512 flags for gg_*_avx512"
#endif

#include "portable/attention_tmpl.h"
#include "portable/bf16_tmpl.h"
#include "portable/dot_tmpl.h"
#include "portable/expand_tmpl.h"
#include "portable/float_tmpl.h"
#include "portable/gemm_i8_tmpl.h"
#include "portable/gemm_tmpl.h"
#include "portable/peak_tmpl.h"
#include "portable/untile_tmpl.h"
