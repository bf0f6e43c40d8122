use crate::TextError;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use weightstream::Dtype;
use weightstream_graph::{Dimension, Input, InputKind, Program, Run, State, Value};

const IDS: &str = "input_ids";
const POSITION: &str = "cache_position";

/// A program that takes `input_ids` `[1, length]` and `cache_position` `[length]` and gives logits, its cache being
/// state.
pub struct TextModel {
    program: Arc<Program>,
    /// The inputs in the program's order.
    order: Vec<Role>,
    /// How many tokens one run takes at most.
    most: usize,
    /// How many tokens the cache holds, where the program tells.
    room: Option<usize>,
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Ids,
    Position,
    Constant,
}

impl TextModel {
    /// # Errors
    /// The program has other inputs, or no state.
    pub fn new(program: impl Into<Arc<Program>>) -> Result<Self, TextError> {
        let program = program.into();
        let order = program
            .inputs()
            .iter()
            .map(role)
            .collect::<Result<Vec<_>, _>>()?;
        if !program.has_state() {
            return Err(TextError::Interface("this one keeps no cache".into()));
        }
        let length = |wanted: Role, dim: usize| {
            let number = order.iter().position(|role| *role == wanted)?;
            match &program.inputs().get(number)?.kind {
                InputKind::Tensor { shape, .. } => shape.get(dim),
                _ => None,
            }
        };
        let missing = |name| TextError::Interface(format!("this one has no {name}"));
        let ids = length(Role::Ids, 1).ok_or_else(|| missing(IDS))?;
        let (most, room) = match (ids, length(Role::Position, 0)) {
            (_, None) => return Err(missing(POSITION)),
            (Dimension::Fixed(1), _) => (1, None),
            (
                Dimension::Symbol {
                    least: 0..=1, most, ..
                },
                _,
            ) => {
                let most = usize::try_from(*most).unwrap_or(usize::MAX).max(1);
                (most, Some(most))
            }
            (other, _) => {
                return Err(TextError::Interface(format!(
                    "this one takes no single token: its length is {other:?}"
                )));
            }
        };
        Ok(Self {
            program,
            order,
            most,
            room,
        })
    }

    /// The program itself.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// A conversation that has not begun, with a cache of its own.
    ///
    /// # Errors
    /// There is no memory, or the file can't be read.
    pub fn begin(&self) -> Result<Conversation<'_>, TextError> {
        Ok(Conversation {
            state: self.program.new_state()?,
            model: self,
            position: 0,
            cancel: None,
        })
    }
}

fn role(input: &Input) -> Result<Role, TextError> {
    let (role, rank) = match (&input.name[..], &input.kind) {
        (_, InputKind::Constant) => return Ok(Role::Constant),
        (IDS, _) => (Role::Ids, 2),
        (POSITION, _) => (Role::Position, 1),
        (other, _) => return Err(TextError::Interface(format!("this one also has {other}"))),
    };
    match &input.kind {
        InputKind::Tensor {
            dtype: Dtype::I64,
            shape,
        } if shape.len() == rank => Ok(role),
        kind => Err(TextError::Interface(format!(
            "its {} is {kind:?}",
            input.name
        ))),
    }
}

/// What has been said so far: the cache, and how far it is filled.
pub struct Conversation<'m> {
    model: &'m TextModel,
    state: State,
    position: usize,
    cancel: Option<&'m AtomicBool>,
}

impl<'m> Conversation<'m> {
    /// One that `flag` ends, once it is set.
    #[must_use]
    pub fn cancelled_by(self, flag: &'m AtomicBool) -> Self {
        Self {
            cancel: Some(flag),
            ..self
        }
    }

    /// How many tokens the model has seen.
    pub fn position(&self) -> usize {
        self.position
    }

    /// How many tokens more the cache holds, where the program tells.
    pub fn room(&self) -> Option<usize> {
        Some(self.model.room?.saturating_sub(self.position))
    }

    /// The model these words are said to.
    pub fn model(&self) -> &TextModel {
        self.model
    }

    /// Lets the model see these tokens, all of them in one pass over its weights where it takes as many, and gives the
    /// logits of the token after them.
    ///
    /// # Errors
    /// No tokens, more than the cache has room for, or as [`Program::run`]. After an error the conversation can go on
    /// from the same place.
    pub fn say(&mut self, tokens: &[u32]) -> Result<Vec<f32>, TextError> {
        if let Some(room) = self.room()
            && tokens.len() > room
        {
            return Err(TextError::Room {
                room,
                got: tokens.len(),
            });
        }
        let mut logits = Err(TextError::Empty);
        for (piece, tokens) in tokens.chunks(self.model.most).enumerate() {
            logits = Ok(self.piece(self.position + piece * self.model.most, tokens)?);
        }
        self.position += tokens.len();
        logits
    }

    fn piece(&mut self, position: usize, tokens: &[u32]) -> Result<Vec<f32>, TextError> {
        let context = self.model.program.context();
        let ids: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
        let positions: Vec<i64> = (position as i64..).take(ids.len()).collect();
        let inputs = self
            .model
            .order
            .iter()
            .map(|role| {
                Ok(match role {
                    Role::Ids => context.tensor(&ids, &[1, ids.len()])?.into(),
                    Role::Position => context.tensor(&positions, &[ids.len()])?.into(),
                    Role::Constant => Value::None,
                })
            })
            .collect::<Result<Vec<Value>, TextError>>()?;
        let run = Run {
            state: Some(&mut self.state),
            cancel: self.cancel,
            ..Run::default()
        };
        let (outputs, _) = self.model.program.run_with(&inputs, run)?;
        let Some(Value::Tensor(logits)) = outputs.first() else {
            return Err(TextError::Interface("this one gives no logits".into()));
        };
        let logits = context.cast(logits, Dtype::F32)?;
        let size = logits.shape().last().copied().unwrap_or(0);
        let all = logits.elements::<f32>()?;
        Ok(all[all.len().saturating_sub(size)..].to_vec())
    }
}
