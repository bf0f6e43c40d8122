use std::fmt;
use std::mem::MaybeUninit;

use crate::decode::Tile;
use crate::encode::Encoder;
use crate::layout::Format;
use crate::quantised::{self, Quantised};
use crate::{Element, kernels};

/// The instructions that code and decode. All give the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel(Instructions);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instructions {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Portable,
}

/// How decoded bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stores {
    /// Through the caches: for bytes that are used at once.
    Cached,
    /// Past the caches, where the processor can and the memory is aligned to its vectors (64 bytes suffice): faster for
    /// much memory that is used later.
    Streaming,
}

impl Kernel {
    /// The fastest kernel of this processor.
    pub fn fastest() -> Self {
        #[cfg(target_arch = "x86_64")]
        if kernels::avx512::detected() {
            return Kernel(Instructions::Avx512);
        } else if kernels::avx2::detected() {
            return Kernel(Instructions::Avx2);
        }
        #[cfg(target_arch = "aarch64")]
        return Kernel(Instructions::Neon);
        #[cfg(not(target_arch = "aarch64"))]
        Kernel(Instructions::Portable)
    }

    /// All kernels that this processor can run, the fastest first and the portable one last.
    pub fn available() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if kernels::avx512::detected() {
                all.push(Kernel(Instructions::Avx512));
            }
            if kernels::avx2::detected() {
                all.push(Kernel(Instructions::Avx2));
            }
        }
        #[cfg(target_arch = "aarch64")]
        all.push(Kernel(Instructions::Neon));
        all.push(Kernel(Instructions::Portable));
        all
    }

    /// Its name: `"avx512"`, `"avx2"`, `"neon"` or `"portable"`.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Instructions::Neon => "neon",
            Instructions::Portable => "portable",
        }
    }

    pub(crate) fn encode(self, encoder: &mut Encoder, format: Format, values: &[u8]) {
        let encode: unsafe fn(&mut Encoder, Format, &[u8]) = match self.0 {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => kernels::avx512::encode,
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => kernels::avx2::encode,
            // NEON is part of every aarch64, for which the compiler uses it here.
            _ => Encoder::encode,
        };
        // SAFETY: a kernel exists only where its instructions were detected.
        unsafe { encode(encoder, format, values) };
    }

    pub(crate) fn dequantise(self, kind: Quantised, blocks: &[u8], to: Element, out: &mut [u8]) {
        let convert: unsafe fn(Quantised, &[u8], Element, &mut [u8]) = match self.0 {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => kernels::avx512::dequantise,
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => kernels::avx2::dequantise,
            _ => quantised::convert,
        };
        // SAFETY: a kernel exists only where its instructions were detected.
        unsafe { convert(kind, blocks, to, out) };
    }

    /// Decodes all values but the distant escapes, or tells by None that escapes lie outside of the chunk's.
    pub(crate) fn decode(
        self,
        tile: &Tile,
        values: &mut [MaybeUninit<u8>],
        stores: Stores,
    ) -> Option<()> {
        // Blocks are whole numbers of vectors, so that what begins aligned stays aligned.
        let aligned = values.as_ptr().addr().is_multiple_of(64);
        let streaming = aligned && stores == Stores::Streaming;
        let decode: unsafe fn(&Tile, &mut [MaybeUninit<u8>]) -> Option<()> =
            match (self.0, streaming) {
                #[cfg(target_arch = "x86_64")]
                (Instructions::Avx512, false) => kernels::avx512::decode::<false>,
                #[cfg(target_arch = "x86_64")]
                (Instructions::Avx512, true) => kernels::avx512::decode::<true>,
                #[cfg(target_arch = "x86_64")]
                (Instructions::Avx2, false) => kernels::avx2::decode::<false>,
                #[cfg(target_arch = "x86_64")]
                (Instructions::Avx2, true) => kernels::avx2::decode::<true>,
                #[cfg(target_arch = "aarch64")]
                (Instructions::Neon, _) => kernels::neon::decode,
                (Instructions::Portable, _) => kernels::portable::decode,
            };
        // SAFETY: a kernel exists only where its instructions were detected; `STREAMING` ones get aligned values.
        unsafe { decode(tile, values) }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The name of the kernel that is used on this processor.
pub fn kernel() -> &'static str {
    Kernel::fastest().name()
}
