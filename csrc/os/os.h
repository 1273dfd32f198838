/* What differs between operating systems. */

#ifndef GG_OS_H
#define GG_OS_H

#include <stdint.h>

/* Sleep while *word == value; may return early. */
void gg_os_wait(uint32_t *word, uint32_t value);

/* Wake all who sleep on word. */
void gg_os_wake(uint32_t *word);

/* The CPU that the caller runs on, or -1 if that is unknown. */
int gg_os_cpu(void);

/* Move the calling thread to another CPU that it may use, if there is one. */
void gg_os_leave_cpu(int cpu);

/* Ask for the registers of AMX, for all threads of this process; returns 0 if they are refused. */
int gg_os_request_tiles(void);

/* On ARM: which of GG_DOTPROD and GG_I8MM the CPU has. */
unsigned gg_os_arm_flags(void);

#endif
