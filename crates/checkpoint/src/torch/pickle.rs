//! What tensors a pickle speaks of, without executing it.
//!
//! A pickle is a program for a stack machine that may call anything. This reads the few operations of which state
//! dicts consist and gives the few calls that rebuild tensors their meaning; whatever else it asks for is refused by
//! name. Values live in tables and refer to each other by number, so that no pickle makes it recurse. What the tables take
//! is counted: an operation of one byte may ask for a hundred.

use std::collections::HashMap;

use super::allowance::Allowance;
use crate::Dtype;

/// A tensor as the pickle describes it: a view of a storage, in elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The record of its storage, under `data/`.
    pub storage: String,
    pub dtype: Dtype,
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
}

impl View {
    /// Bytes of memory that it refers to.
    fn footprint(&self) -> usize {
        let sizes = self.shape.len() + self.strides.len();
        self.storage.len() + sizes * size_of::<u64>()
    }
}

/// More than any framework knows.
const MAX_DIMENSIONS: usize = 64;

/// How deep containers of tensors may lie in each other.
const MAX_DEPTH: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Value {
    Mark,
    None,
    Bool(bool),
    Number(i64),
    /// Numbers into the machine's tables.
    Text(usize),
    Global(usize),
    Tuple(usize),
    List(usize),
    Dict(usize),
    Storage(usize),
    Tensor(usize),
    /// Something harmless that no tensor is made of.
    Opaque,
}

impl Value {
    fn may_hold_tensors(self) -> bool {
        matches!(
            self,
            Value::Tensor(_) | Value::Dict(_) | Value::List(_) | Value::Tuple(_)
        )
    }
}

#[derive(Debug, Clone)]
struct Storage {
    key: String,
    /// None for bytes whose type the tensor tells.
    dtype: Option<Dtype>,
}

struct Machine<'p> {
    /// What the tables may still take.
    allowance: Allowance,
    stack: Vec<Value>,
    memo: HashMap<u64, Value>,
    texts: Vec<&'p str>,
    globals: Vec<String>,
    tuples: Vec<Box<[Value]>>,
    lists: Vec<Vec<Value>>,
    dicts: Vec<Vec<(Value, Value)>>,
    storages: Vec<Storage>,
    tensors: Vec<View>,
}

/// The tensors in `pickle` by name. Those in nested containers are named by their keys and numbers, joined by dots.
///
/// # Errors
/// Says what was expected and what was got.
pub fn tensors(pickle: &[u8]) -> Result<Vec<(String, View)>, String> {
    let mut machine = Machine::new(pickle.len());
    let top = machine.run(pickle)?;
    machine.named(top)
}

struct Input<'p> {
    bytes: &'p [u8],
    position: usize,
}

impl<'p> Input<'p> {
    fn take(&mut self, count: u64) -> Result<&'p [u8], String> {
        let taken = usize::try_from(count)
            .ok()
            .and_then(|count| self.position.checked_add(count))
            .and_then(|end| self.bytes.get(self.position..end))
            .ok_or("the pickle ends within an operation")?;
        self.position += taken.len();
        Ok(taken)
    }

    /// A little-endian number of `width` bytes.
    fn number(&mut self, width: u64) -> Result<u64, String> {
        let bytes = self.take(width)?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn text(&mut self, length: u64) -> Result<&'p str, String> {
        std::str::from_utf8(self.take(length)?).map_err(|_| "expected UTF-8 in the pickle".into())
    }

    fn line(&mut self) -> Result<&'p str, String> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let length = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or("the pickle ends within a line")?;
        let line = self.text(length as u64)?;
        self.position += 1;
        Ok(line)
    }
}

impl<'p> Machine<'p> {
    /// For a pickle of `length` bytes.
    fn new(length: usize) -> Self {
        Self {
            allowance: Allowance::for_pickle(length),
            stack: Vec::new(),
            memo: HashMap::new(),
            texts: Vec::new(),
            globals: Vec::new(),
            tuples: Vec::new(),
            lists: Vec::new(),
            dicts: Vec::new(),
            storages: Vec::new(),
            tensors: Vec::new(),
        }
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        self.allowance.push(&mut self.stack, value)
    }

    fn run(&mut self, pickle: &'p [u8]) -> Result<Value, String> {
        let mut input = Input {
            bytes: pickle,
            position: 0,
        };
        loop {
            let operation = input.number(1)? as u8;
            match operation {
                0x80 => drop(input.take(1)?),
                0x95 => drop(input.take(8)?),
                b'.' => return self.pop(),
                b'(' => self.push(Value::Mark)?,
                b'0' => drop(self.pop()?),
                b'1' => drop(self.pop_to_mark()?),
                b'N' => self.push(Value::None)?,
                0x88 => self.push(Value::Bool(true))?,
                0x89 => self.push(Value::Bool(false))?,
                b'K' => {
                    let number = input.number(1)?;
                    self.push(Value::Number(number as i64))?;
                }
                b'M' => {
                    let number = input.number(2)?;
                    self.push(Value::Number(number as i64))?;
                }
                b'J' => {
                    let number = input.number(4)? as u32 as i32;
                    self.push(Value::Number(number.into()))?;
                }
                0x8A => {
                    let length = input.number(1)?;
                    let value = long(input.take(length)?);
                    self.push(value)?;
                }
                b'G' => {
                    input.take(8)?;
                    self.push(Value::Opaque)?;
                }
                b'X' => self.read_text(&mut input, 4)?,
                0x8C => self.read_text(&mut input, 1)?,
                0x8D => self.read_text(&mut input, 8)?,
                b'B' | b'T' => self.skip_bytes(&mut input, 4)?,
                b'C' | b'U' => self.skip_bytes(&mut input, 1)?,
                0x8E => self.skip_bytes(&mut input, 8)?,
                b')' => self.push_tuple(Vec::new())?,
                b't' => {
                    let items = self.pop_to_mark()?;
                    self.push_tuple(items)?;
                }
                0x85..=0x87 => {
                    let items = self.pop_last(usize::from(operation) - 0x84)?;
                    self.push_tuple(items)?;
                }
                b']' => self.push_list()?,
                b'}' => self.push_dict()?,
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' => {
                    let items = self.pop_to_mark()?;
                    self.append(items)?;
                }
                b's' => {
                    let items = self.pop_last(2)?;
                    self.insert(&items)?;
                }
                b'u' => {
                    let items = self.pop_to_mark()?;
                    self.insert(&items)?;
                }
                b'c' => {
                    let global = format!("{}.{}", input.line()?, input.line()?);
                    self.push_global(global)?;
                }
                0x93 => {
                    let names = self.pop_last(2)?;
                    let global = format!("{}.{}", self.text(names[0])?, self.text(names[1])?);
                    self.push_global(global)?;
                }
                b'q' => self.remember(input.number(1)?)?,
                b'r' => self.remember(input.number(4)?)?,
                0x94 => self.remember(self.memo.len() as u64)?,
                b'h' => self.recall(input.number(1)?)?,
                b'j' => self.recall(input.number(4)?)?,
                b'Q' => self.load_storage()?,
                b'R' => self.call()?,
                b'b' => self.build()?,
                other => return Err(refused(&format!("operation {other:#04x}"))),
            }
        }
    }

    fn pop(&mut self) -> Result<Value, String> {
        match self.stack.pop() {
            None | Some(Value::Mark) => {
                Err("the pickle takes more from its stack than it put there".into())
            }
            Some(value) => Ok(value),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self
            .stack
            .iter()
            .rposition(|&value| value == Value::Mark)
            .ok_or("the pickle goes back to a mark that it did not set")?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn pop_last(&mut self, count: usize) -> Result<Vec<Value>, String> {
        let mut items = (0..count)
            .map(|_| self.pop())
            .collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        Ok(items)
    }

    fn read_text(&mut self, input: &mut Input<'p>, width: u64) -> Result<(), String> {
        let length = input.number(width)?;
        let text = input.text(length)?;
        self.allowance.push(&mut self.texts, text)?;
        self.push(Value::Text(self.texts.len() - 1))?;
        Ok(())
    }

    fn skip_bytes(&mut self, input: &mut Input<'p>, width: u64) -> Result<(), String> {
        let length = input.number(width)?;
        input.take(length)?;
        self.push(Value::Opaque)?;
        Ok(())
    }

    fn push_tuple(&mut self, items: Vec<Value>) -> Result<(), String> {
        self.allowance.take(size_of_val(&items[..]))?;
        self.allowance
            .push(&mut self.tuples, items.into_boxed_slice())?;
        self.push(Value::Tuple(self.tuples.len() - 1))
    }

    fn push_list(&mut self) -> Result<(), String> {
        self.allowance.push(&mut self.lists, Vec::new())?;
        self.push(Value::List(self.lists.len() - 1))
    }

    fn push_dict(&mut self) -> Result<(), String> {
        self.allowance.push(&mut self.dicts, Vec::new())?;
        self.push(Value::Dict(self.dicts.len() - 1))
    }

    fn push_global(&mut self, global: String) -> Result<(), String> {
        self.allowance.take(global.len())?;
        self.allowance.push(&mut self.globals, global)?;
        self.push(Value::Global(self.globals.len() - 1))
    }

    fn append(&mut self, items: Vec<Value>) -> Result<(), String> {
        match self.stack.last() {
            Some(&Value::List(list)) => self.allowance.extend(&mut self.lists[list], &items),
            _ => Err(refused("an append to something that is no list")),
        }
    }

    fn insert(&mut self, items: &[Value]) -> Result<(), String> {
        let Some(&Value::Dict(dict)) = self.stack.last() else {
            return Err(refused("an item in something that is no dict"));
        };
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("the pickle has a key without a value".into());
        }
        for &[key, value] in pairs {
            self.allowance.push(&mut self.dicts[dict], (key, value))?;
        }
        Ok(())
    }

    fn remember(&mut self, number: u64) -> Result<(), String> {
        let value = *self
            .stack
            .last()
            .ok_or("the pickle remembers what is not there")?;
        if self.memo.len() == self.memo.capacity() {
            let entries = self.memo.len().max(1);
            self.allowance
                .take(entries * size_of::<(u64, Value, u8)>())?;
        }
        self.memo.insert(number, value);
        Ok(())
    }

    fn recall(&mut self, number: u64) -> Result<(), String> {
        let value = self
            .memo
            .get(&number)
            .ok_or("the pickle recalls what it did not remember")?;
        self.push(*value)
    }

    /// ("storage", type, key, location, elements)
    fn load_storage(&mut self) -> Result<(), String> {
        let id = self.pop()?;
        let &[kind, class, key, _, _] = self.tuple(id)? else {
            return Err(refused(
                "a persistent object of another form than a storage's",
            ));
        };
        if self.text(kind)? != "storage" {
            return Err(refused("a persistent object that is no storage"));
        }
        let class = self.global(class)?;
        let dtype = storage_dtype(class).ok_or_else(|| refused(class))?;
        let key = self.text(key)?;
        self.allowance.take(key.len())?;
        let storage = Storage {
            key: key.to_owned(),
            dtype,
        };
        self.allowance.push(&mut self.storages, storage)?;
        self.push(Value::Storage(self.storages.len() - 1))?;
        Ok(())
    }

    fn call(&mut self) -> Result<(), String> {
        let arguments = self.pop()?;
        let function = self.pop()?;
        let arguments = self.tuple(arguments)?.to_vec();
        let function = self.global(function)?.to_owned();
        match (function.as_str(), &arguments[..]) {
            ("collections.OrderedDict", []) => self.push_dict()?,
            (
                "torch._utils._rebuild_tensor_v2",
                &[storage, offset, shape, strides, _, _, ref rest @ ..],
            ) => {
                self.rebuild(storage, offset, shape, strides, None, rest.first().copied())?;
            }
            (
                "torch._utils._rebuild_tensor_v3",
                &[storage, offset, shape, strides, _, _, dtype, ref rest @ ..],
            ) => {
                let name = self.global(dtype)?;
                let dtype = scalar_dtype(name).ok_or_else(|| refused(name))?;
                self.rebuild(
                    storage,
                    offset,
                    shape,
                    strides,
                    Some(dtype),
                    rest.first().copied(),
                )?;
            }
            ("torch._utils._rebuild_parameter", &[tensor @ Value::Tensor(_), ..]) => {
                self.push(tensor)?
            }
            ("torch.Size", &[sizes @ Value::Tuple(_)]) => self.push(sizes)?,
            ("torch.device", _) => self.push(Value::Opaque)?,
            _ => return Err(refused(&function)),
        }
        Ok(())
    }

    fn rebuild(
        &mut self,
        storage: Value,
        offset: Value,
        shape: Value,
        strides: Value,
        dtype: Option<Dtype>,
        metadata: Option<Value>,
    ) -> Result<(), String> {
        let Value::Storage(storage) = storage else {
            return Err(refused("a tensor without a storage"));
        };
        // Bits that say: conjugate or negate when read.
        if let Some(Value::Dict(metadata)) = metadata
            && !self.dicts[metadata].is_empty()
        {
            return Err(refused(
                "a tensor that is conjugated or negated when it is read; resolve it before saving",
            ));
        }
        let Storage { key, dtype: stored } = self.storages[storage].clone();
        let dtype = dtype
            .or(stored)
            .ok_or_else(|| refused("an untyped tensor"))?;
        let view = View {
            storage: key,
            dtype,
            offset: number(offset)?,
            shape: self.numbers(shape)?,
            strides: self.numbers(strides)?,
        };
        if view.shape.len() != view.strides.len() || view.shape.len() > MAX_DIMENSIONS {
            return Err(format!(
                "a tensor of shape {:?} has the strides {:?}",
                view.shape, view.strides
            ));
        }
        self.allowance.take(view.footprint())?;
        self.allowance.push(&mut self.tensors, view)?;
        self.push(Value::Tensor(self.tensors.len() - 1))?;
        Ok(())
    }

    /// State of a dict: `_metadata`, which says nothing of tensors.
    fn build(&mut self) -> Result<(), String> {
        self.pop()?;
        match self.stack.last() {
            Some(Value::Dict(_)) => Ok(()),
            _ => Err(refused("state for an object")),
        }
    }

    fn text(&self, value: Value) -> Result<&'p str, String> {
        match value {
            Value::Text(text) => Ok(self.texts[text]),
            _ => Err("expected text in the pickle, got something else".into()),
        }
    }

    fn global(&self, value: Value) -> Result<&str, String> {
        match value {
            Value::Global(global) => Ok(&self.globals[global]),
            _ => Err(refused("a call of something that has no name")),
        }
    }

    fn tuple(&self, value: Value) -> Result<&[Value], String> {
        match value {
            Value::Tuple(tuple) => Ok(&self.tuples[tuple]),
            _ => Err("expected a tuple in the pickle, got something else".into()),
        }
    }

    fn numbers(&self, value: Value) -> Result<Vec<u64>, String> {
        let items = self.tuple(value)?;
        if items.len() > MAX_DIMENSIONS {
            return Err(format!("a tensor of {} dimensions", items.len()));
        }
        items.iter().map(|&item| number(item)).collect()
    }

    fn named(&mut self, top: Value) -> Result<Vec<(String, View)>, String> {
        let mut named = Vec::new();
        let mut waiting = vec![(String::new(), top, 0)];
        while let Some((name, value, depth)) = waiting.pop() {
            let items: Vec<(String, Value)> = match value {
                Value::Tensor(tensor) => {
                    let view = self.tensors[tensor].clone();
                    self.allowance.take(view.footprint())?;
                    self.allowance.push(&mut named, (name, view))?;
                    continue;
                }
                Value::Dict(dict) => self.dicts[dict]
                    .iter()
                    .filter(|(_, value)| value.may_hold_tensors())
                    .filter_map(|&(key, value)| match key {
                        Value::Text(text) => Some((self.texts[text].to_owned(), value)),
                        Value::Number(number) => Some((number.to_string(), value)),
                        _ => None,
                    })
                    .collect(),
                Value::List(list) => numbered(&self.lists[list]),
                Value::Tuple(tuple) => numbered(&self.tuples[tuple]),
                _ => continue,
            };
            if depth == MAX_DEPTH {
                return Err(format!(
                    "expected containers at most {MAX_DEPTH} deep, got more"
                ));
            }
            for (key, value) in items {
                let name = if name.is_empty() {
                    key
                } else {
                    format!("{name}.{key}")
                };
                // Containers that share each other could ask for more than there is memory.
                self.allowance.take(name.len() + 1)?;
                self.allowance
                    .push(&mut waiting, (name, value, depth + 1))?;
            }
        }
        Ok(named)
    }
}

fn numbered(items: &[Value]) -> Vec<(String, Value)> {
    let items = items.iter().enumerate();
    items
        .filter(|(_, value)| value.may_hold_tensors())
        .map(|(number, &value)| (number.to_string(), value))
        .collect()
}

fn number(value: Value) -> Result<u64, String> {
    match value {
        Value::Number(number) if number >= 0 => Ok(number as u64),
        other => Err(format!("expected a size in the pickle, got {other:?}")),
    }
}

/// A little-endian two's complement number; larger ones than any size are nothing to us.
fn long(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Opaque;
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xFF } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Number(i64::from_le_bytes(wide))
}

fn refused(what: &str) -> String {
    format!(
        "expected a pickle of tensors in dicts and lists, got {what}, which only executing it could make; \
         save the state_dict, best as safetensors"
    )
}

/// What the elements of a storage class are: Some(None) for bytes.
fn storage_dtype(class: &str) -> Option<Option<Dtype>> {
    Some(Some(match class {
        "torch.FloatStorage" => Dtype::F32,
        "torch.DoubleStorage" => Dtype::F64,
        "torch.HalfStorage" => Dtype::F16,
        "torch.BFloat16Storage" => Dtype::BF16,
        "torch.LongStorage" => Dtype::I64,
        "torch.IntStorage" => Dtype::I32,
        "torch.ShortStorage" => Dtype::I16,
        "torch.CharStorage" => Dtype::I8,
        "torch.ByteStorage" => Dtype::U8,
        "torch.BoolStorage" => Dtype::BOOL,
        "torch.ComplexFloatStorage" => Dtype::C64,
        "torch.storage.UntypedStorage" => return Some(None),
        _ => return None,
    }))
}

/// The dtype of that name, as pickles of types without a storage class have it.
fn scalar_dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "torch.float8_e4m3fn" => Dtype::F8_E4M3,
        "torch.float8_e5m2" => Dtype::F8_E5M2,
        "torch.float8_e4m3fnuz" => Dtype::F8_E4M3FNUZ,
        "torch.float8_e5m2fnuz" => Dtype::F8_E5M2FNUZ,
        "torch.float8_e8m0fnu" => Dtype::F8_E8M0,
        "torch.uint16" => Dtype::U16,
        "torch.uint32" => Dtype::U32,
        "torch.uint64" => Dtype::U64,
        _ => return None,
    })
}
