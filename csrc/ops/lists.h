/* Which rows go through which expert: made by route.c, once for all linears that share it, read by linear.c.
 *
 * Integers: start[experts + 1] of the rows that are computed together (the wide regime), start[experts + 1] of the others,
 * then items: row * slots + slot. The items of expert e are those from start[e] to start[e + 1]. */

#ifndef GG_LISTS_H
#define GG_LISTS_H

#include <stddef.h>
#include <stdint.h>

static inline const int32_t *gg_list_starts(const int32_t *lists, size_t experts, int wide) {
    return lists + (wide ? 0 : experts + 1);
}
static inline const int32_t *gg_list_items(const int32_t *lists, size_t experts) { return lists + 2 * (experts + 1); }

#endif
