/* The templates once more, for the instruction set that this file's library is compiled for. */

#if !defined(__AVX2__) || !defined(__FMA__) || !defined(__F16C__)
#error "compile this file with -mavx2 -mfma -mf16c, and the AVX-512 flags for gg_*_avx512"
#endif

#include "../bf16_tmpl.h"
#include "../attention_tmpl.h"
#include "../dot_tmpl.h"
#include "../expand_tmpl.h"
#include "../float_tmpl.h"
#include "../gemm_i8_tmpl.h"
#include "../gemm_tmpl.h"
#include "../peak_tmpl.h"
#include "../untile_tmpl.h"
