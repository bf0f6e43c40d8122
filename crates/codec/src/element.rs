/// What the bytes of a chunk are, which decides how they are coded. Values are little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    /// bfloat16: 1 sign bit, 8 of exponent, 7 of mantissa.
    Bf16,
    /// IEEE half precision: 1 sign bit, 5 of exponent, 10 of mantissa.
    F16,
    /// IEEE single precision: 1 sign bit, 8 of exponent, 23 of mantissa.
    F32,
    /// Anything else: kept as it is.
    Bytes,
}
