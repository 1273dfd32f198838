/* The templates once more, with NEON's own instructions. */

#if !defined(__aarch64__)
#error "this file is for aarch64"
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
