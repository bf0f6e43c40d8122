//! Where a fault was, and whether it was a write: each machine says so in a place of its own.

/// The address of the interrupted thread's last fault that became a signal, also where `context` belongs to a signal
/// without an address. A thread that had none may show that of the thread that started it; 0 where the machine doesn't
/// say.
///
/// # Safety
/// `context` is what the kernel passed to a handler of a signal.
pub unsafe fn last_fault(context: *const libc::c_void) -> usize {
    // SAFETY: the kernel's third argument is a ucontext.
    unsafe {
        let _context = context.cast::<libc::ucontext_t>();
        #[cfg(all(target_arch = "x86_64", not(target_vendor = "apple")))]
        return (*_context).uc_mcontext.gregs[libc::REG_CR2 as usize] as usize;
        #[cfg(all(target_arch = "aarch64", not(target_vendor = "apple")))]
        return (*_context).uc_mcontext.fault_address as usize;
        #[cfg(not(all(
            any(target_arch = "x86_64", target_arch = "aarch64"),
            not(target_vendor = "apple")
        )))]
        return 0;
    }
}

/// Whether the fault that `context` belongs to was a write. False where the machine doesn't say.
///
/// # Safety
/// `context` is what the kernel passed to a handler of SIGSEGV.
#[cfg(all(target_arch = "x86_64", not(target_vendor = "apple")))]
pub unsafe fn is_write(context: *const libc::c_void) -> bool {
    const PAGE_FAULT_WRITE: i64 = 2;
    // SAFETY: the kernel's third argument is a ucontext.
    unsafe {
        let context = context.cast::<libc::ucontext_t>();
        (*context).uc_mcontext.gregs[libc::REG_ERR as usize] & PAGE_FAULT_WRITE != 0
    }
}

/// Apple: mach/arm/_structs.h, `__esr` of `arm_exception_state64`.
///
/// # Safety
/// As for the other machines.
#[cfg(all(target_arch = "aarch64", target_vendor = "apple"))]
pub unsafe fn is_write(context: *const libc::c_void) -> bool {
    // SAFETY: the kernel's third argument is a ucontext, which points at the machine's.
    unsafe {
        let context = context.cast::<libc::ucontext_t>();
        (*(*context).uc_mcontext).__es.__esr & WRITE_NOT_READ != 0
    }
}

/// Bit 6 (WnR) of the syndrome register is set for a write: Arm Architecture Reference Manual, ESR_EL1, data abort.
#[cfg(target_arch = "aarch64")]
const WRITE_NOT_READ: u32 = 1 << 6;

#[cfg(not(any(
    target_arch = "aarch64",
    all(target_arch = "x86_64", not(target_vendor = "apple"))
)))]
pub unsafe fn is_write(_: *const libc::c_void) -> bool {
    false
}

#[cfg(all(target_arch = "aarch64", not(target_vendor = "apple")))]
pub use arm::is_write;

/// Linux: arch/arm64/include/uapi/asm/sigcontext.h
#[cfg(all(target_arch = "aarch64", not(target_vendor = "apple")))]
mod arm {
    use super::WRITE_NOT_READ;

    /// The kernel appends records to the registers, 16-byte aligned; one of size 0 ends them.
    const RECORDS_AT: usize = (8 + 31 * 8 + 8 + 8 + 8_usize).next_multiple_of(16);
    const RECORDS_BYTES: usize = 4096;
    const _: () = assert!(size_of::<libc::mcontext_t>() == RECORDS_AT + RECORDS_BYTES);

    /// The record with this magic holds the syndrome register.
    const SYNDROME: u32 = 0x4553_5201;

    #[repr(C)]
    struct Record {
        magic: u32,
        size: u32,
        syndrome: u64,
    }

    /// # Safety
    /// As for the other machines.
    pub unsafe fn is_write(context: *const libc::c_void) -> bool {
        // SAFETY: the kernel's third argument is a ucontext, and its records are 16-byte aligned; the walk is bounded
        // by their area.
        unsafe {
            let context = context.cast::<libc::ucontext_t>();
            let records = (&raw const (*context).uc_mcontext)
                .cast::<u8>()
                .add(RECORDS_AT);
            let mut at = 0;
            while at + size_of::<Record>() <= RECORDS_BYTES {
                let record = records.add(at).cast::<Record>();
                match ((*record).magic, (*record).size) {
                    (SYNDROME, _) => return (*record).syndrome & u64::from(WRITE_NOT_READ) != 0,
                    (_, 0) => return false,
                    (_, size) => at += size as usize,
                }
            }
            false
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        const VECTORS: u32 = 0x4650_8001;

        fn context(records: &[(u32, u32, u64)]) -> libc::ucontext_t {
            // SAFETY: zero is a valid ucontext; every record lies inside the area.
            unsafe {
                let mut context: libc::ucontext_t = std::mem::zeroed();
                let area = (&raw mut context.uc_mcontext).cast::<u8>().add(RECORDS_AT);
                let mut at = 0;
                for &(magic, size, syndrome) in records {
                    area.add(at).cast::<Record>().write(Record {
                        magic,
                        size,
                        syndrome,
                    });
                    at += size as usize;
                }
                context
            }
        }

        fn says(records: &[(u32, u32, u64)]) -> bool {
            let context = context(records);
            // SAFETY: laid out as the kernel does.
            unsafe { is_write((&raw const context).cast()) }
        }

        /// Syndromes as the kernel gives them: data abort from user space, permission fault.
        #[test]
        fn the_syndrome_is_found_among_the_records() {
            assert!(says(&[(VECTORS, 528, 0), (SYNDROME, 16, 0x9200_004f)]));
            assert!(!says(&[(VECTORS, 528, 0), (SYNDROME, 16, 0x9200_000f)]));
            assert!(!says(&[(VECTORS, 528, u64::MAX)]));
            assert!(!says(&[(VECTORS, 4090, 0)]));
            assert!(!says(&[]));
        }
    }
}
