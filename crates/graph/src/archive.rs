//! Finds programs: in a `.pt2` file, or in the folder that `weightstream pack` made of one.

use crate::ProgramError;
use crate::schema::{self, ExportedProgram};
use std::path::{Path, PathBuf};
use weightstream::source::read_small;
use weightstream::{Archive, CheckpointError, exported_models, inside};

/// Where a packed folder has its programs, as the archive had them.
const MODELS: &str = "models";

/// What has programs.
const A_PROGRAM: &str =
    "a .pt2 file that torch.export.save wrote, or the folder that `weightstream pack` made of one";

/// Larger than the JSON of any program: that of a language model of a hundred layers has 30 MB.
const MAX_PROGRAM: u64 = 256 << 20;

/// A program and where its weights are.
pub struct Found {
    pub program: ExportedProgram,
    /// What `Checkpoint::open` opens.
    pub weights: PathBuf,
    /// What the names of its weights begin with there.
    pub prefix: String,
}

/// A file with programs, or a folder.
pub enum Programs {
    /// The archive, and of each program what comes before `models/` in it, and its name.
    Archive(Box<Archive>, Vec<(String, String)>),
    /// The folder, and the programs' names.
    Folder(PathBuf, Vec<String>),
}

impl Programs {
    pub fn open(path: &Path) -> Result<Self, ProgramError> {
        let folder = path.join(MODELS);
        if !path.exists() || (path.is_dir() && !folder.is_dir()) {
            return Err(CheckpointError::nothing_like(A_PROGRAM, path).into());
        }
        if !path.is_dir() {
            let archive = Archive::open(path)?;
            let models = exported_models(&archive);
            return Ok(Self::Archive(Box::new(archive), models));
        }
        let folder = inside(path, MODELS).map_err(CheckpointError::from)?;
        let mut names = Vec::new();
        for entry in folder.read_dir().map_err(io(&folder))? {
            let name = entry.map_err(io(&folder))?.file_name();
            names.extend(
                name.to_string_lossy()
                    .strip_suffix(".json")
                    .map(str::to_owned),
            );
        }
        names.sort();
        Ok(Self::Folder(path.to_owned(), names))
    }

    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Archive(_, models) => models.iter().map(|(_, name)| name.clone()).collect(),
            Self::Folder(_, names) => names.clone(),
        }
    }

    /// What the names of a program's weights begin with: two programs may use the same ones.
    pub fn prefix(&self, name: &str) -> String {
        match self.names().len() {
            1 => String::new(),
            _ => format!("{name}."),
        }
    }

    /// Where a packed folder has the program.
    pub fn file(name: &str) -> PathBuf {
        Path::new(MODELS).join(format!("{name}.json"))
    }

    /// The program's JSON.
    pub fn text(&self, name: &str) -> Result<Vec<u8>, ProgramError> {
        match self {
            Self::Archive(archive, models) => {
                let root = models.iter().find(|(_, other)| other == name);
                let root = root.map_or("", |(root, _)| root);
                let entry = format!("{root}{MODELS}/{name}.json");
                Ok(archive.read(&entry, MAX_PROGRAM)?)
            }
            Self::Folder(folder, _) => {
                let file = inside(folder, Self::file(name)).map_err(CheckpointError::from)?;
                Ok(read_small(&file, MAX_PROGRAM)?)
            }
        }
    }
}

/// Reads the program at `path`; `model` names one of several.
pub fn read(path: &Path, model: Option<&str>) -> Result<Found, ProgramError> {
    let programs = Programs::open(path)?;
    let names = programs.names();
    let name = match model {
        Some(wanted) => names.iter().find(|name| *name == wanted),
        None => names.first().filter(|_| names.len() == 1),
    };
    let Some(name) = name else {
        return Err(ProgramError::Model {
            path: path.to_owned(),
            wanted: model.map(str::to_owned),
            models: names,
        });
    };
    Ok(Found {
        program: parse(path, &programs.text(name)?)?,
        weights: path.to_owned(),
        prefix: programs.prefix(name),
    })
}

/// The version is looked at first: another one may not be readable at all.
pub fn parse(path: &Path, text: &[u8]) -> Result<ExportedProgram, ProgramError> {
    let json = |cause: serde_json::Error| ProgramError::Json {
        path: path.to_owned(),
        cause,
    };
    let versioned: schema::Versioned = serde_json::from_slice(text).map_err(json)?;
    if versioned.schema_version.major != schema::MAJOR {
        return Err(ProgramError::Version {
            path: path.to_owned(),
            expected: schema::MAJOR,
            major: versioned.schema_version.major,
            minor: versioned.schema_version.minor,
            torch: versioned.torch_version,
        });
    }
    serde_json::from_slice(text).map_err(json)
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> ProgramError {
    let path = path.to_owned();
    move |cause| ProgramError::Io { path, cause }
}
