/* What differs between operating systems. */

#ifndef GG_OS_H
#define GG_OS_H

#include <stdint.h>

/* Sleep while *word == value; may return early. */
void gg_os_wait(uint32_t *word, uint32_t value);

/* Wake all who sleep on word. */
void gg_os_wake(uint32_t *word);

#endif
