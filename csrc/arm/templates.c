/* The templates once more, with NEON's own instructions. */

#if !defined(__aarch64__)
#error "this file is for aarch64"
#endif

#include "../attention_tmpl.h"
#include "../bf16_tmpl.h"
#include "../dot_tmpl.h"
#include "../expand_tmpl.h"
#include "../float_tmpl.h"
#include "../gemm_i8_tmpl.h"
#include "../gemm_tmpl.h"
#include "../peak_tmpl.h"
#include "../untile_tmpl.h"
