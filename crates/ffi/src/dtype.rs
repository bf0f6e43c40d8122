use weightstream::Dtype as Element;

/// What one element of a tensor is.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// None of these.
    Unknown = 0,
    /// Truth, a byte: 0, or anything else for true.
    Bool = 1,
    /// An unsigned integer of 8 bits.
    U8 = 2,
    /// An integer of 8 bits.
    I8 = 3,
    /// An integer of 16 bits.
    I16 = 4,
    /// An integer of 32 bits.
    I32 = 5,
    /// An integer of 64 bits.
    I64 = 6,
    /// A number of 16 bits: 5 of exponent, 10 of fraction.
    F16 = 7,
    /// A number of 16 bits: the upper half of an F32.
    BF16 = 8,
    /// A number of 32 bits.
    F32 = 9,
    /// A number of 64 bits.
    F64 = 10,
}

const PAIRS: [(Dtype, Element); 10] = [
    (Dtype::Bool, Element::BOOL),
    (Dtype::U8, Element::U8),
    (Dtype::I8, Element::I8),
    (Dtype::I16, Element::I16),
    (Dtype::I32, Element::I32),
    (Dtype::I64, Element::I64),
    (Dtype::F16, Element::F16),
    (Dtype::BF16, Element::BF16),
    (Dtype::F32, Element::F32),
    (Dtype::F64, Element::F64),
];

impl From<Element> for Dtype {
    fn from(element: Element) -> Self {
        PAIRS
            .iter()
            .find(|(_, other)| *other == element)
            .map_or(Self::Unknown, |(dtype, _)| *dtype)
    }
}

/// The dtype of this number. C may pass any, so it is not taken as the enumeration.
pub(crate) fn element(number: u32) -> Option<Element> {
    PAIRS
        .iter()
        .find(|(dtype, _)| *dtype as u32 == number)
        .map(|(_, element)| *element)
}
