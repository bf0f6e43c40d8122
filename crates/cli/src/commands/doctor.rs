use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use clap::Args;
use weightstream::MemoryBackend;
use weightstream_source::{Backend, Caching, OnCompletion, open, open_with};

use crate::CliError;
use crate::context::{Context, Outcome};
use crate::size;

/// Show what of this machine is used, what is missing, and what that costs.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A folder on the disk that models are read from
    #[arg(default_value = ".")]
    folder: PathBuf,
}

/// One thing that was looked at.
struct Finding {
    name: &'static str,
    found: String,
    /// What it costs that this is not as it should be.
    cost: Option<String>,
}

impl Finding {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            found: found.into(),
            cost: None,
        }
    }

    fn lacking(name: &'static str, found: impl Into<String>, cost: impl Into<String>) -> Self {
        Self {
            name,
            found: found.into(),
            cost: Some(cost.into()),
        }
    }
}

pub fn run(arguments: Arguments, context: &mut Context) -> Result<Outcome, CliError> {
    let mut findings = vec![
        Finding::good("weightstream", env!("CARGO_PKG_VERSION")),
        processor(),
        codec(),
        memory(),
        cgroup(),
        kernel(),
        publishing(),
        huge_pages(),
        mappings(),
    ];
    findings.extend(reading(&arguments.folder)?);
    findings.push(torch(context.python.as_deref()));
    findings.push(gpu());

    let (green, yellow) = (anstyle::AnsiColor::Green.on_default(), anstyle::AnsiColor::Yellow.on_default());
    for Finding { name, found, cost } in &findings {
        match cost {
            None => writeln!(context, "{green}ok{green:#}  {name:13} {found}")?,
            Some(cost) => {
                writeln!(context, "{yellow}--{yellow:#}  {name:13} {found}")?;
                writeln!(context, "    {:13} {cost}", "")?;
            }
        }
    }
    Ok(Outcome::Good)
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    let text = weightstream_source::read_small(path.as_ref(), 1 << 20).ok()?;
    Some(String::from_utf8(text).ok()?.trim().to_owned())
}

fn processor() -> Finding {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let name = read("/proc/cpuinfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let name = name.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let found = format!("{name}, {threads} in use");
    if threads > 1 {
        return Finding::good("processor", found);
    }
    Finding::lacking("processor", found, "computing and decoding share one processor: neither hides behind the other")
}

fn codec() -> Finding {
    match weightstream_codec::kernel() {
        "portable" => Finding::lacking(
            "codec",
            "portable kernel",
            "no AVX2, AVX-512 or NEON here: coded weights are decoded several times slower; pack with --code none",
        ),
        kernel => Finding::good("codec", format!("{kernel} kernel")),
    }
}

fn memory() -> Finding {
    let text = read("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kibibytes << 10)
    };
    match (field("MemTotal:"), field("MemAvailable:")) {
        (Some(total), Some(free)) => {
            let (total, free) = (size::format(total), size::format(free));
            Finding::good("memory", format!("{total}, {free} of it available"))
        }
        _ => Finding::good("memory", "unknown"),
    }
}

/// The strictest limit of this process's memory cgroups, version 1 or 2.
fn cgroup() -> Finding {
    let own = read("/proc/self/cgroup").unwrap_or_default();
    let mut least: Option<u64> = None;
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (root, file) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        // A limit may lie on any ancestor; inside a container the own path may not be visible at all.
        for folder in Path::new(root).join(path.trim_start_matches('/')).ancestors() {
            let limit = read(folder.join(file)).and_then(|text| text.parse::<u64>().ok());
            // Version 1 says "no limit" by a number that no machine has.
            if let Some(limit) = limit.filter(|&limit| limit < 1 << 60) {
                least = Some(least.map_or(limit, |least| least.min(limit)));
            }
            if folder == Path::new(root) {
                break;
            }
        }
    }
    match least {
        Some(limit) => Finding::good("cgroup", format!("memory limited to {}", size::format(limit))),
        None => Finding::good("cgroup", "no limit of memory"),
    }
}

fn kernel() -> Finding {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into());
    Finding::good("kernel", format!("{} {release}", std::env::consts::OS))
}

fn publishing() -> Finding {
    match MemoryBackend::best() {
        MemoryBackend::Move => Finding::good("publishing", "pages are moved (mremap with MREMAP_DONTUNMAP)"),
        MemoryBackend::Share => Finding::lacking(
            "publishing",
            "by a memory file",
            "the kernel lacks MREMAP_DONTUNMAP (Linux 5.7): pages are small, reading costs several times the \
             processor time",
        ),
    }
}

fn huge_pages() -> Finding {
    let setting = read("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let chosen = setting
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'))
        .map(|(chosen, _)| chosen.to_owned());
    match chosen.as_deref() {
        Some(chosen @ ("always" | "madvise")) => Finding::good("huge pages", chosen),
        found => Finding::lacking(
            "huge pages",
            found.unwrap_or("none"),
            "direct reads run at about half the speed for 4 times the processor time: \
             echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        ),
    }
}

fn mappings() -> Finding {
    /// What the kernel allows by default, and what the budget is cut for.
    const USUAL: u64 = 65_530;
    match read("/proc/sys/vm/max_map_count").and_then(|text| text.parse::<u64>().ok()) {
        Some(count) if count < USUAL => Finding::lacking(
            "mappings",
            format!("{count} allowed"),
            format!("budgets of tens of GiB need more: sysctl vm.max_map_count={USUAL}"),
        ),
        Some(count) => Finding::good("mappings", format!("{count} allowed")),
        None => Finding::good("mappings", "no limit known"),
    }
}

/// How a file in `folder` is read, tried with one.
fn reading(folder: &Path) -> Result<Vec<Finding>, CliError> {
    let path = folder.join(format!(".weightstream-doctor-{}", std::process::id()));
    let failed = |source| CliError::File {
        path: path.clone(),
        action: "write a file to try reading with; name another folder",
        source,
    };
    std::fs::write(&path, vec![7; 1 << 20]).map_err(failed)?;
    let found = try_reading(std::slice::from_ref(&path));
    std::fs::remove_file(&path).map_err(failed)?;
    found
}

fn try_reading(path: &[PathBuf]) -> Result<Vec<Finding>, CliError> {
    let ignored = || -> OnCompletion { Arc::new(|_| ()) };
    let used = open(path, ignored())?.name();
    let mut findings = vec![Finding::good("reading", used)];
    if !used.contains("direct") {
        findings = vec![Finding::lacking(
            "reading",
            used,
            "this file system refuses direct I/O: bytes are copied once more, and pass through the page cache",
        )];
    }
    findings.push(match open_with(path, Backend::Uring, Caching::Direct, ignored()) {
        Ok(_) => Finding::good("io_uring", "allowed"),
        Err(reason) => Finding::lacking(
            "io_uring",
            reason.to_string(),
            "a pool of threads reads instead: as fast, for a little more processor time",
        ),
    });
    Ok(findings)
}

/// Asks the interpreter that has called, or else the first one in the path.
fn torch(python: Option<&Path>) -> Finding {
    const QUESTION: &str = "import torch; c = torch.backends.cpu.get_cpu_capability(); \
        g = torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU'; \
        print(f'{torch.__version__}, {torch.get_num_threads()} threads, {c}, {g}')";
    let python = python.unwrap_or(Path::new("python3"));
    let asked = Command::new(python).args(["-c", QUESTION]).output();
    match asked {
        Ok(output) if output.status.success() => {
            Finding::good("torch", String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        _ => Finding::lacking(
            "torch",
            format!("none in {}", python.display()),
            "models can be packed, inspected and planned, but not run from Python: pip install torch",
        ),
    }
}

fn gpu() -> Finding {
    let driver = read("/proc/driver/nvidia/version")
        .and_then(|text| text.lines().next().map(str::to_owned))
        .and_then(|line| line.split_once(':').map(|(_, rest)| rest.trim().to_owned()));
    match driver {
        Some(driver) => Finding::good("gpu", driver),
        None => Finding::lacking("gpu", "no NVIDIA driver", "models run on the processor"),
    }
}
