//! Writes coded chunks for the target `codec` into the folder that it is given.

use std::path::PathBuf;

use weightstream_codec::{Element, encode};

fn main() -> std::io::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).unwrap_or("seeds/codec".into()));
    std::fs::create_dir_all(&folder)?;
    for (element, upper) in [
        (Element::Bf16, 0x3C),
        (Element::F16, 0x20),
        (Element::F32, 0x3C),
    ] {
        for values in [600_u32, 2000] {
            // Few exponents, and now and then one that needs an escape of either kind.
            let raw: Vec<u8> = (0..values * 4)
                .map(|at| match at {
                    at if at % 2 == 0 => (at * 37) as u8,
                    at if at % 97 == 1 => at as u8,
                    at => upper + (at / 2 % 3) as u8,
                })
                .collect();
            let mut coded = Vec::new();
            encode(element, &raw, &mut coded);
            std::fs::write(folder.join(format!("{element:?}-{values}")), coded)?;
        }
    }
    Ok(())
}
