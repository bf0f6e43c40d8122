/// Why the GPU could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CudaError {
    /// There is no CUDA driver on this machine, or one that is too old.
    #[error("the CUDA driver can't be opened: {cause}")]
    Library {
        /// What the loader said.
        cause: String,
    },
    /// A device number that this machine does not have.
    #[error("expected a CUDA device below {count}, got {got}")]
    Device {
        /// The number asked for.
        got: i32,
        /// How many there are.
        count: i32,
    },
    /// The device can't do what streaming needs.
    #[error("{device} can't stream weights: it has no {what}")]
    Unsupported {
        /// Its name.
        device: String,
        /// What it lacks.
        what: &'static str,
    },
    /// The driver refused a call.
    #[error("{call} failed: {name} ({code}){detail}")]
    Call {
        /// The function of the driver API.
        call: &'static str,
        /// The driver's number for the reason.
        code: u32,
        /// The driver's word for the reason.
        name: String,
        /// What it concerned; empty, or begins with ": ".
        detail: String,
    },
    /// A rule of the simulated driver was broken; on a real device this would be undefined or end the context.
    #[error("a rule of the device was broken: {what}")]
    Rule {
        /// The rule.
        what: String,
    },
}
