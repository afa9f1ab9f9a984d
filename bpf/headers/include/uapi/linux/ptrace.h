/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* BCC's helpers name the registers of x86-64 for kprobes. */
#ifndef KMWATCH_PTRACE_H
#define KMWATCH_PTRACE_H

struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8;
	unsigned long ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};

#endif
