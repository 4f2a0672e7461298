//! What an ONNX file may hold, read from its bytes before ONNX Runtime sees them.
//!
//! A file is a protocol buffer, `ModelProto` of `onnx.proto3`: fields of a number, a wire type and a value, nested. Only the
//! few fields that matter here are looked at. Refused are weights that lie in other files (the library would read any path),
//! loops and branches (a file could run for ever) and operators outside the standard's two sets.
//!
//! Source: Protocol Buffers, *Encoding*, <https://protobuf.dev/programming-guides/encoding/>; ONNX, `onnx/onnx.proto3`.

use super::Error;

/// Operators that run a graph of their own, or one for as long as they like.
const CONTROL: [&str; 4] = ["If", "Loop", "Scan", "SequenceMap"];
/// The standard's operator sets by domain; the first is also written as nothing.
const DOMAINS: [&str; 3] = ["", "ai.onnx", "ai.onnx.ml"];

/// A field: its number and, where it is bytes, those; other wire types are numbers.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message in the order in which they stand; ends with an error where the bytes are none.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for place in 0..10 {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f).checked_shl(7 * place)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn bytes(&mut self, length: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }

    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Field::Number(self.varint()?),
            1 => self.bytes(8).map(|_| Field::Number(0))?,
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.bytes(length)?)
            }
            5 => self.bytes(4).map(|_| Field::Number(0))?,
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Field<'a>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or_else(|| Error::NotTaken { reason: "it is no ONNX file, or not a whole one".to_owned() }))
    }
}

/// Checks a `ModelProto`: field 7 is its graph, 20 and 25 are training graphs and functions.
///
/// # Errors
/// [`Error::NotTaken`] for what is no protocol buffer or has no graph, [`Error::Refused`] for what is not to be run.
pub(super) fn check(file: &[u8]) -> Result<(), Error> {
    let mut graphs = 0;
    for field in Fields(file) {
        match field? {
            (7, Field::Bytes(graph)) => {
                graphs += 1;
                of_graph(graph)?;
            }
            (20 | 25, _) => return Err(Error::Refused("functions or training graphs of its own".to_owned())),
            _ => {}
        }
    }
    if graphs == 1 { Ok(()) } else { Err(Error::NotTaken { reason: format!("it has {graphs} graphs, not one") }) }
}

/// `GraphProto`: 1 nodes, 5 initializers, 15 sparse initializers.
fn of_graph(graph: &[u8]) -> Result<(), Error> {
    for field in Fields(graph) {
        match field? {
            (1, Field::Bytes(node)) => of_node(node)?,
            (5, Field::Bytes(tensor)) => of_tensor(tensor)?,
            (15, Field::Bytes(sparse)) => of_sparse(sparse)?,
            _ => {}
        }
    }
    Ok(())
}

/// `NodeProto`: 4 operator, 5 attributes, 7 domain.
fn of_node(node: &[u8]) -> Result<(), Error> {
    for field in Fields(node) {
        match field? {
            (4, Field::Bytes(name)) if CONTROL.iter().any(|control| control.as_bytes() == name) => {
                return Err(Error::Refused(format!("the operator {}", String::from_utf8_lossy(name))));
            }
            (7, Field::Bytes(domain)) if !DOMAINS.iter().any(|known| known.as_bytes() == domain) => {
                return Err(Error::Refused(format!("operators of {:?}", String::from_utf8_lossy(domain))));
            }
            (5, Field::Bytes(attribute)) => of_attribute(attribute)?,
            _ => {}
        }
    }
    Ok(())
}

/// `AttributeProto`: 5 and 10 tensors, 22 and 23 sparse ones, 6 and 11 graphs.
fn of_attribute(attribute: &[u8]) -> Result<(), Error> {
    for field in Fields(attribute) {
        match field? {
            (5 | 10, Field::Bytes(tensor)) => of_tensor(tensor)?,
            (22 | 23, Field::Bytes(sparse)) => of_sparse(sparse)?,
            (6 | 11, Field::Bytes(_)) => return Err(Error::Refused("graphs inside its operators".to_owned())),
            _ => {}
        }
    }
    Ok(())
}

/// `SparseTensorProto`: 1 values, 2 indices.
fn of_sparse(sparse: &[u8]) -> Result<(), Error> {
    for field in Fields(sparse) {
        if let (1 | 2, Field::Bytes(tensor)) = field? {
            of_tensor(tensor)?;
        }
    }
    Ok(())
}

/// `TensorProto`: 13 where its data lie, 14 whether that is another file.
fn of_tensor(tensor: &[u8]) -> Result<(), Error> {
    for field in Fields(tensor) {
        if matches!(field?, (13, Field::Bytes(_)) | (14, Field::Number(1..))) {
            return Err(Error::Refused("weights that lie in another file".to_owned()));
        }
    }
    Ok(())
}
