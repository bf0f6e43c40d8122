//! How inputs and outputs are nested in tuples, lists and dicts: torch's serialised pytrees.

use crate::ProgramError;
use serde::Deserialize;

#[derive(Deserialize)]
struct Spec {
    r#type: Option<String>,
    context: Option<String>,
    children_spec: Vec<Spec>,
}

/// The names of the leaves of a serialised pytree (`[1, {...}]`), in order: `hidden.0`, `logits`. A tree that is one
/// leaf has an empty name.
pub fn leaf_names(serialised: &str) -> Result<Vec<String>, ProgramError> {
    let mut names = Vec::new();
    parse(serialised)?.leaves("", &mut names);
    Ok(names)
}

/// The names of the leaves of a call's arguments: (positional, keyword), the positional ones named by `parameters`.
pub fn argument_names(
    serialised: &str,
    parameters: &[String],
) -> Result<Vec<String>, ProgramError> {
    let spec = parse(serialised)?;
    let mut names = Vec::new();
    match &spec.children_spec[..] {
        [positional, keyword] => {
            for (number, child) in positional.children_spec.iter().enumerate() {
                let name = parameters
                    .get(number)
                    .cloned()
                    .unwrap_or_else(|| number.to_string());
                child.leaves(&name, &mut names);
            }
            keyword.leaves("", &mut names);
        }
        _ => spec.leaves("", &mut names),
    }
    Ok(names)
}

fn parse(serialised: &str) -> Result<Spec, ProgramError> {
    let (version, spec): (u32, Spec) = serde_json::from_str(serialised)
        .map_err(|error| ProgramError::Malformed(format!("the structure of a call: {error}")))?;
    if version != 1 {
        return Err(ProgramError::Malformed(format!(
            "expected structures of version 1, got {version}"
        )));
    }
    Ok(spec)
}

impl Spec {
    fn leaves(&self, name: &str, names: &mut Vec<String>) {
        if self.r#type.is_none() {
            names.push(name.to_owned());
            return;
        }
        let keys = self.keys();
        for (number, child) in self.children_spec.iter().enumerate() {
            let key = keys
                .get(number)
                .cloned()
                .unwrap_or_else(|| number.to_string());
            let path = if name.is_empty() {
                key
            } else {
                format!("{name}.{key}")
            };
            child.leaves(&path, names);
        }
    }

    /// Keys of a dict, fields of a class.
    fn keys(&self) -> Vec<String> {
        self.context
            .as_deref()
            .and_then(|context| serde_json::from_str::<serde_json::Value>(context).ok())
            .map(|context| keys_in(&context))
            .filter(|keys| keys.len() == self.children_spec.len())
            .unwrap_or_default()
    }
}

fn keys_in(context: &serde_json::Value) -> Vec<String> {
    match context {
        serde_json::Value::Array(entries) => entries
            .iter()
            .map(|entry| match entry {
                serde_json::Value::String(key) => key.clone(),
                other => other.to_string(),
            })
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_are_named_by_their_way() {
        let leaf = r#"{"type":null,"context":null,"children_spec":[]}"#;
        let pair = format!(
            r#"{{"type":"builtins.tuple","context":"null","children_spec":[{leaf},{leaf}]}}"#
        );
        let dict = format!(
            r#"{{"type":"builtins.dict","context":"[\"y\",\"l\"]","children_spec":[{leaf},{pair}]}}"#
        );
        assert_eq!(
            leaf_names(&format!("[1,{dict}]")).unwrap(),
            ["y", "l.0", "l.1"]
        );
        assert_eq!(leaf_names(&format!("[1,{leaf}]")).unwrap(), [""]);
        let call = format!(
            r#"[1,{{"type":"builtins.tuple","context":"null","children_spec":[{pair},{dict}]}}]"#
        );
        let names = argument_names(&call, &["a".into(), "b".into()]).unwrap();
        assert_eq!(names, ["a", "b", "y", "l.0", "l.1"]);
        assert!(leaf_names("[2,{}]").is_err());
    }
}
