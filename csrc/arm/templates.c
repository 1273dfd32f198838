/* The templates once more, with NEON's own instructions. */

#if !defined(__aarch64__)
#error "this file is for aarch64"
#endif

#include "../dot_tmpl.h"
#include "../expand_tmpl.h"
#include "../float_tmpl.h"
#include "../gemm_tmpl.h"
