//! Finds the program in a `.pt2` file, or in the folder that was made of one.

use crate::ProgramError;
use crate::schema::{self, ExportedProgram};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use weightstream::{Archive, exported_models};

/// The program in a packed folder.
const PROGRAM: &str = "program.json";

/// A program and where its weights are.
pub struct Found {
    pub program: ExportedProgram,
    /// What `Checkpoint::open` opens.
    pub weights: PathBuf,
    /// What the names of its weights begin with there.
    pub prefix: String,
}

/// Reads the program at `path`; `model` names one of several.
pub fn read(path: &Path, model: Option<&str>) -> Result<Found, ProgramError> {
    if path.is_dir() {
        let file = path.join(PROGRAM);
        let reader = std::fs::File::open(&file).map_err(|cause| ProgramError::Io {
            path: file.clone(),
            cause,
        })?;
        return Ok(Found {
            program: parse(path, reader)?,
            weights: path.to_owned(),
            prefix: String::new(),
        });
    }
    let archive = Archive::open(path)?;
    let models = exported_models(&archive);
    let names = || models.iter().map(|(_, name)| name.clone()).collect();
    let (root, name) = match model {
        Some(wanted) => models.iter().find(|(_, name)| name == wanted),
        None => models.first().filter(|_| models.len() == 1),
    }
    .ok_or_else(|| ProgramError::Model {
        path: path.to_owned(),
        wanted: model.map(str::to_owned),
        models: names(),
    })?;
    let program = parse(path, archive.reader(&format!("{root}models/{name}.json"))?)?;
    Ok(Found {
        program,
        weights: path.to_owned(),
        prefix: match models.len() {
            1 => String::new(),
            _ => format!("{name}."),
        },
    })
}

fn parse(path: &Path, reader: impl Read) -> Result<ExportedProgram, ProgramError> {
    // The version is looked at first: another one may not be readable at all.
    let json = |cause: serde_json::Error| ProgramError::Json {
        path: path.to_owned(),
        cause,
    };
    let mut text = Vec::new();
    BufReader::new(reader)
        .read_to_end(&mut text)
        .map_err(|cause| ProgramError::Io {
            path: path.to_owned(),
            cause,
        })?;
    let versioned: schema::Versioned = serde_json::from_slice(&text).map_err(json)?;
    if versioned.schema_version.major != schema::MAJOR {
        return Err(ProgramError::Version {
            path: path.to_owned(),
            expected: schema::MAJOR,
            major: versioned.schema_version.major,
            minor: versioned.schema_version.minor,
            torch: versioned.torch_version,
        });
    }
    serde_json::from_slice(&text).map_err(json)
}
