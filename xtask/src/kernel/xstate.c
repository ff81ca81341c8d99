/*
 * Preloaded into guest kernels that know no larger register area than AVX-512's.
 *
 * Linux up to 6.12 as a user-mode kernel saves a process's floating point registers with PTRACE_GETREGSET and
 * puts them back with PTRACE_SETREGSET, in a buffer of 2696 bytes (arch/x86/um/user-offsets.c). Where the host's
 * processor has AMX, the host's area is 11008 bytes and the host refuses a shorter one (EFAULT,
 * xstateregs_set() in arch/x86/kernel/fpu/regset.c): "ptrace set fp regs failed, errno = 14", and the
 * guest dies with its first process.
 *
 * So a short area is filled up with zeroes, and the components that lie behind it are taken out of
 * the header's list: they go to their initial state. No process can miss them: AMX needs
 * arch_prctl(ARCH_REQ_XCOMP_PERM), which a guest kernel does not have.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Offset of XSTATE_BV in an XSAVE area, behind the legacy region. */
#define HEADER 512
/* x87 to PKRU: components 0 to 9 end at 2696. */
#define KNOWN_COMPONENTS ((UINT64_C(1) << 10) - 1)

/* A guest kernel has one thread that does ptrace. */
static char area[1 << 16] __attribute__((aligned(64)));
static size_t area_len;

static long set_xstate(long pid, void *kind, struct iovec *given)
{
	struct iovec whole = { area, sizeof area };
	uint64_t components;

	if (area_len == 0) {
		if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, kind, &whole) < 0)
			return -1;
		area_len = whole.iov_len;
	}
	if (given->iov_len >= area_len || given->iov_len < HEADER + sizeof components)
		return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, kind, given);
	memset(area, 0, area_len);
	memcpy(area, given->iov_base, given->iov_len);
	memcpy(&components, area + HEADER, sizeof components);
	components &= KNOWN_COMPONENTS;
	memcpy(area + HEADER, &components, sizeof components);
	whole.iov_len = area_len;
	return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, kind, &whole);
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list args;
	long pid, word, result;
	void *addr, *data;

	va_start(args, request);
	pid = va_arg(args, long);
	addr = va_arg(args, void *);
	data = va_arg(args, void *);
	va_end(args);

	if (request == PTRACE_SETREGSET && (uintptr_t)addr == NT_X86_XSTATE)
		return set_xstate(pid, addr, data);
	/* As in every C library: the kernel stores the word, the function returns it. */
	if (request >= PTRACE_PEEKTEXT && request <= PTRACE_PEEKUSER) {
		result = syscall(SYS_ptrace, request, pid, addr, &word);
		if (result < 0)
			return result;
		errno = 0;
		return word;
	}
	return syscall(SYS_ptrace, request, pid, addr, data);
}
