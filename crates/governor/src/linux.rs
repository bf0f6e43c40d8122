//! The pressure on Linux: the control groups around this process (versions 1 and 2), else the machine.
#![allow(clippy::disallowed_methods)] // the files are the kernel's

use crate::{Pressure, PressureSource};
use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// Reads the files of the kernel, under these roots.
#[derive(Debug, Clone)]
pub struct ControlGroups {
    groups: Vec<Group>,
    proc: PathBuf,
}

/// A control group that has, or may come to have, a limit of its own.
#[derive(Debug, Clone)]
struct Group {
    folder: PathBuf,
    names: &'static Names,
}

/// What the files of a version are called.
#[derive(Debug)]
struct Names {
    limit: &'static str,
    usage: &'static str,
    /// In memory.stat: page cache that can go at once.
    cache: &'static str,
    /// How long tasks waited; version 1 does not tell.
    stalls: Option<&'static str>,
}

const VERSION_1: Names = Names {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cache: "total_inactive_file",
    stalls: None,
};
const VERSION_2: Names = Names {
    limit: "memory.max",
    usage: "memory.current",
    cache: "inactive_file",
    stalls: Some("memory.pressure"),
};

impl ControlGroups {
    /// Those around this process.
    pub fn around_this_process() -> Self {
        Self::under(Path::new("/proc"), Path::new("/sys/fs/cgroup"))
    }

    /// Those that `proc`/self/cgroup names, under `root`.
    pub fn under(proc: &Path, root: &Path) -> Self {
        let mut groups = Vec::new();
        for line in read_to_string(proc.join("self/cgroup"))
            .unwrap_or_default()
            .lines()
        {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
                continue;
            };
            let (base, names) = if controllers.is_empty() {
                let whole = root.join("cgroup.controllers").exists();
                let base = if whole {
                    root.to_path_buf()
                } else {
                    root.join("unified")
                };
                (base, &VERSION_2)
            } else if controllers.split(',').any(|name| name == "memory") {
                (root.join("memory"), &VERSION_1)
            } else {
                continue;
            };
            // Any ancestor may have the limit that counts.
            let folder = base.join(path.trim_start_matches('/'));
            let ancestors = folder.ancestors().take_while(|at| at.starts_with(&base));
            groups.extend(ancestors.map(|folder| Group {
                folder: folder.to_path_buf(),
                names,
            }));
        }
        Self {
            groups,
            proc: proc.to_path_buf(),
        }
    }

    fn machine(&self) -> Option<Pressure> {
        let text = read_to_string(self.proc.join("meminfo")).ok()?;
        let bytes = |name: &str| counter(&text, name).map(|kibibytes| kibibytes * 1024);
        let (limit, free) = (bytes("MemTotal:")?, bytes("MemAvailable:")?);
        Some(Pressure {
            limit,
            used: limit.saturating_sub(free),
            stalled: stalled(&self.proc.join("pressure/memory")),
        })
    }
}

impl PressureSource for ControlGroups {
    /// The one with the least room.
    fn pressure(&mut self) -> Option<Pressure> {
        let groups = self.groups.iter().filter_map(Group::pressure);
        groups.chain(self.machine()).min_by_key(Pressure::free)
    }
}

impl Group {
    fn pressure(&self) -> Option<Pressure> {
        let read = |name: &str| read_to_string(self.folder.join(name)).ok();
        // "max" is no number, and no limit.
        let limit: u64 = read(self.names.limit)?.trim().parse().ok()?;
        let usage: u64 = read(self.names.usage)?.trim().parse().ok()?;
        let cache = counter(&read("memory.stat")?, self.names.cache).unwrap_or(0);
        Some(Pressure {
            limit,
            used: usage.saturating_sub(cache),
            stalled: self
                .names
                .stalls
                .and_then(|name| stalled(&self.folder.join(name))),
        })
    }
}

/// The number after `name` at the start of a line.
fn counter(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    let mut line = lines.find(|line| line.clone().next() == Some(name))?;
    line.nth(1)?.parse().ok()
}

/// "some avg10=1.25 avg60=…": in the last ten seconds.
fn stalled(path: &Path) -> Option<f64> {
    let text = read_to_string(path).ok()?;
    let some = text.lines().find(|line| line.starts_with("some "))?;
    let average = some
        .split_whitespace()
        .find_map(|word| word.strip_prefix("avg10="))?;
    average.parse().ok()
}
