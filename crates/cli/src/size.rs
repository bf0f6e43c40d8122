//! Sizes as people write them, as everywhere in weightstream.

const UNITS: [(&str, u64); 9] = [
    ("", 1),
    ("k", 1000),
    ("m", 1_000_000),
    ("g", 1_000_000_000),
    ("t", 1_000_000_000_000),
    ("ki", 1 << 10),
    ("mi", 1 << 20),
    ("gi", 1 << 30),
    ("ti", 1 << 40),
];

/// Bytes: `1000000`, `800MB`, `1.5GiB`.
pub fn parse(text: &str) -> Result<u64, String> {
    let expected = || format!("expected a size such as 1.5GiB or 800MB, got {text:?}");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let unit = unit.trim();
    let unit = unit.strip_suffix('b').unwrap_or(unit);
    let (_, scale) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(expected)?;
    let number: f64 = number.parse().map_err(|_| expected())?;
    let bytes = number * *scale as f64;
    if !(1.0..=(1_u64 << 62) as f64).contains(&bytes) {
        return Err(expected());
    }
    Ok(bytes as u64)
}

/// `bytes` as a person writes them: `1.50 GiB`.
pub fn format(bytes: u64) -> String {
    let mut count = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if count < 1024.0 {
            let digits = if unit == "B" { 0 } else { 2 };
            return format!("{count:.digits$} {unit}");
        }
        count /= 1024.0;
    }
    format!("{count:.2} TiB")
}

/// Bytes a second.
pub fn format_rate(rate: f64) -> String {
    format!("{:.2} GB/s", rate / 1e9)
}

/// Seconds: the shorter, the finer.
pub fn format_time(seconds: f64) -> String {
    match seconds {
        0.0..1e-3 => format!("{:.0} µs", seconds * 1e6),
        1e-3..1.0 => format!("{:.0} ms", seconds * 1e3),
        1.0..120.0 => format!("{seconds:.2} s"),
        _ => format!("{:.1} min", seconds / 60.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_python_reads_them() {
        for (text, bytes) in [
            ("1000", 1000),
            ("1GB", 1_000_000_000),
            ("1.5GiB", 3 << 29),
            ("2 MiB", 2 << 20),
            ("800mb", 800_000_000),
            ("1k", 1000),
            ("3Ti", 3 << 40),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "GB",
            "1.2.3",
            "-1",
            "1PB",
            "0",
            "nan",
            "1e400",
            "1 G B",
            "99999999TiB",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!(format(512), "512 B");
        assert_eq!(format(3 << 29), "1.50 GiB");
        assert_eq!(format(5 << 40), "5.00 TiB");
        assert_eq!(format_time(0.000_12), "120 µs");
        assert_eq!(format_time(0.25), "250 ms");
        assert_eq!(format_time(300.0), "5.0 min");
    }
}
