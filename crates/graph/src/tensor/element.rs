use half::{bf16, f16};
use weightstream::Dtype;

/// A Rust type that elements of a tensor can be read and written as.
///
/// # Safety
/// Every bit pattern is a value of the type, and its size is that of every dtype that it [`holds`](Self::holds).
pub unsafe trait Element: Copy + Default + PartialOrd + Send + Sync + 'static {
    /// The dtype that results of this type have.
    const DTYPE: Dtype;

    /// Whether elements of `dtype` are values of this type.
    fn holds(dtype: Dtype) -> bool {
        dtype == Self::DTYPE
    }
}

macro_rules! elements {
    ($($element:ty = $dtype:ident),*) => {
        $(
            // SAFETY: plain numbers of the dtype's width.
            unsafe impl Element for $element {
                const DTYPE: Dtype = Dtype::$dtype;
            }
        )*
    };
}

elements!(
    f64 = F64,
    f32 = F32,
    f16 = F16,
    bf16 = BF16,
    i64 = I64,
    i32 = I32,
    i16 = I16,
    i8 = I8
);

// SAFETY: two float32 numbers, the real and the imaginary part.
unsafe impl Element for [f32; 2] {
    const DTYPE: Dtype = Dtype::C64;
}

// SAFETY: bytes. Booleans are bytes of 0 and 1 here: what a file holds may be neither, which a Rust `bool` must not.
unsafe impl Element for u8 {
    const DTYPE: Dtype = Dtype::U8;

    fn holds(dtype: Dtype) -> bool {
        matches!(dtype, Dtype::U8 | Dtype::BOOL)
    }
}
