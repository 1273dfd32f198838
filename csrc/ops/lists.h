/* Which rows go through which expert: made by route.c, once for all linears that share it, read by linear.c.
 *
 * Integers: experts and slots, which stand there from the beginning; start[experts + 1] of the rows that are computed
 * together (the wide regime), start[experts + 1] of the others, then items: row * slots + slot. The items of expert e are
 * those from start[e] to start[e + 1]. */

#ifndef GG_LISTS_H
#define GG_LISTS_H

#include <stddef.h>
#include <stdint.h>

enum { GG_LIST_HEAD = 2 };

static inline int gg_lists_are_of(const int32_t *lists, int32_t experts, int32_t slots) {
    return lists[0] == experts && lists[1] == slots;
}
static inline const int32_t *gg_list_starts(const int32_t *lists, size_t experts, int wide) {
    return lists + GG_LIST_HEAD + (wide ? 0 : experts + 1);
}
static inline const int32_t *gg_list_items(const int32_t *lists, size_t experts) {
    return lists + GG_LIST_HEAD + 2 * (experts + 1);
}

#endif
