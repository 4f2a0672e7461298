//! ONNX Runtime, a library of the machine, bound to when the first model asks for it.
//!
//! Nothing of it is compiled in. A session runs on the caller's thread alone, and always in blocks of as many rows: what
//! matrix products give for one row depends on how many stand beside it, in the last bit.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

use ort::{
    environment::Environment,
    logging::LogLevel,
    session::{Session, builder::SessionBuilder},
    value::{TensorElementType, TensorRef, ValueType},
};

use super::Error;

/// Rows of a block.
const BLOCK: usize = 16;
/// Names under which the system's loader may know the library.
const NAMES: [&str; 2] = ["libonnxruntime.so", "libonnxruntime.so.1"];

static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// Says where the library lies, before the first model needs it; whoever says so first is followed. Unsaid, the system's loader
/// looks for it.
pub fn use_library(path: &Path) {
    LIBRARY.get_or_init(|| path.to_owned());
}

/// The process's one environment; where the library is not there, it is looked for again the next time.
fn environment() -> Result<Environment, Error> {
    let mut made = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = &*made {
        return Ok(environment.clone());
    }
    let names: Vec<&Path> = match LIBRARY.get() {
        Some(path) => vec![path.as_path()],
        None => NAMES.iter().map(Path::new).collect(),
    };
    let mut reason = String::new();
    for name in names {
        match ort::init_from(name) {
            Ok(builder) => {
                let environment = builder
                    .with_name("harbinger")
                    .with_telemetry(false)
                    .build()
                    .map_err(|error| Error::NoRuntime { reason: error.to_string() })?;
                environment.set_log_level(LogLevel::Fatal);
                return Ok(made.insert(environment).clone());
            }
            Err(error) => reason = error.to_string(),
        }
    }
    Err(Error::NoRuntime { reason })
}

/// A file that ONNX Runtime has taken: rows of features in, the probability of failure out.
pub(super) struct Opened {
    session: Session,
    input: String,
    output: String,
    width: usize,
}

impl Opened {
    /// Has ONNX Runtime read a file, and finds its input and the output that holds probabilities.
    ///
    /// * `width`: features of a row.
    ///
    /// # Errors
    /// [`Error::NoRuntime`], [`Error::NotTaken`], [`Error::Shape`].
    pub(super) fn new(file: &[u8], width: usize) -> Result<Self, Error> {
        let taken = |error: ort::Error| Error::NotTaken { reason: first_line(&error.to_string()) };
        let environment = environment()?;
        let session = options(&environment).and_then(|mut builder| builder.commit_from_memory(file)).map_err(taken)?;
        let input = match session.inputs() {
            [input] => input,
            inputs => return Err(Error::Shape(format!("it has {} inputs, not one", inputs.len()))),
        };
        match input.dtype() {
            ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } if fits(shape, width) => {}
            ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } => {
                return Err(Error::Shape(format!(
                    "its input {:?} has shape {shape}, not [N, {width}] with N left open: the features are {width}",
                    input.name()
                )));
            }
            other => {
                return Err(Error::Shape(format!(
                    "its input {:?} is {other}, not a tensor of float: export it with FloatTensorType([None, {width}])",
                    input.name()
                )));
            }
        }
        let holds_maps = |of: &ValueType| matches!(of, ValueType::Sequence(_) | ValueType::Map { .. });
        if session.outputs().iter().any(|output| holds_maps(output.dtype())) {
            return Err(Error::Shape(
                "its probabilities are a sequence of maps: export it with zipmap=False".to_owned(),
            ));
        }
        let is_float = |of: &ValueType| {
            matches!(of, ValueType::Tensor { ty: TensorElementType::Float32, shape, .. }
                if shape.len() == 2 && matches!(shape[1], -1 | 1 | 2))
        };
        let found: Vec<&str> =
            session.outputs().iter().filter(|output| is_float(output.dtype())).map(|output| output.name()).collect();
        let &[output] = found.as_slice() else {
            let found = found.len();
            return Err(Error::Shape(format!("{found} of its outputs are floats of shape [N, 2] or [N, 1], not one")));
        };
        Ok(Self { input: input.name().to_owned(), output: output.to_owned(), session, width })
    }

    /// The probability of each row, `None` where what came out is none: not finite, or outside 0..=1.
    ///
    /// # Errors
    /// [`Error::NotTaken`] where a block could not be run; [`Error::Shape`] where it gives other numbers than it declares.
    pub(super) fn probabilities(&mut self, rows: &[&[f64]]) -> Result<Vec<Option<f64>>, Error> {
        let mut probabilities = Vec::with_capacity(rows.len());
        let mut block = vec![0.0_f32; BLOCK * self.width];
        for rows in rows.chunks(BLOCK) {
            block.fill(0.0);
            for (place, row) in block.chunks_mut(self.width).zip(rows) {
                place.iter_mut().zip(*row).for_each(|(place, &value)| *place = narrowed(value));
            }
            probabilities.extend(self.run(&block)?.into_iter().take(rows.len()));
        }
        Ok(probabilities)
    }

    fn run(&mut self, block: &[f32]) -> Result<Vec<Option<f64>>, Error> {
        let failed = |error: ort::Error| Error::NotTaken { reason: first_line(&error.to_string()) };
        let input = TensorRef::from_array_view(([BLOCK, self.width], block)).map_err(failed)?;
        let outputs = self.session.run(ort::inputs![self.input.as_str() => input]).map_err(failed)?;
        let (shape, values) = outputs[self.output.as_str()].try_extract_tensor::<f32>().map_err(failed)?;
        let columns = values.len() / BLOCK;
        if values.len() % BLOCK != 0 || !matches!(columns, 1 | 2) {
            return Err(Error::Shape(format!("it gives {shape} for {BLOCK} rows, not [N, 2] or [N, 1]")));
        }
        let probability = |row: &[f32]| row.last().map(|&p| f64::from(p)).filter(|p| (0.0..=1.0).contains(p));
        Ok(values.chunks(columns).map(probability).collect())
    }
}

/// One thread, the caller's: rows are scored in parallel already.
fn options(environment: &Environment) -> Result<SessionBuilder, ort::Error> {
    Ok(Session::builder(environment)?
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_memory_pattern(false)?
        .with_log_level(LogLevel::Fatal)?)
}

fn fits(shape: &[i64], width: usize) -> bool {
    matches!(*shape, [-1, -1]) || matches!(*shape, [-1, features] if usize::try_from(features) == Ok(width))
}

/// A number as models take it: what is beyond its range is the largest there is, what is missing stays missing.
#[expect(clippy::cast_possible_truncation, reason = "the range is clamped, and precision is what is to be given up")]
pub(in crate::failure) fn narrowed(value: f64) -> f32 {
    value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

/// ONNX Runtime tells where in its own source it was; what it tells first suffices.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
