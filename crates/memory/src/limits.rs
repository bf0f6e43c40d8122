//! The system's limits that a refused mapping may have met, in words.

use std::io;

/// What to say after `cause`: nothing where it is not that something has run out.
#[expect(clippy::disallowed_methods, reason = "the file is the kernel's")]
pub fn limits(cause: &io::Error) -> String {
    match cause.raw_os_error() {
        Some(libc::ENOMEM) => {
            let mappings = std::fs::read_to_string("/proc/sys/vm/max_map_count");
            let mappings =
                mappings.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned());
            format!(
                " (address space may be {} bytes: RLIMIT_AS; mappings may be {mappings}: vm.max_map_count)",
                limit(libc::RLIMIT_AS as _)
            )
        }
        Some(libc::EAGAIN) => format!(
            " (locked memory may be {} bytes: RLIMIT_MEMLOCK, which after mlockall all addresses count for)",
            limit(libc::RLIMIT_MEMLOCK as _)
        ),
        _ => String::new(),
    }
}

fn limit(resource: libc::c_int) -> String {
    let mut limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the system fills in a structure of our own, which is valid in any case.
    unsafe { libc::getrlimit(resource as _, &raw mut limit) };
    match limit.rlim_cur {
        libc::RLIM_INFINITY => "any number of".into(),
        bytes => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_run_out_names_limits() {
        let words = |errno| limits(&io::Error::from_raw_os_error(errno));
        assert!(words(libc::ENOMEM).contains("vm.max_map_count"));
        assert!(words(libc::ENOMEM).contains("RLIMIT_AS"));
        assert!(words(libc::EAGAIN).contains("RLIMIT_MEMLOCK"));
        assert_eq!(words(libc::EINVAL), "");
    }
}
