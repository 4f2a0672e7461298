//! Native lines: from the body of a request to readings and events, each with the line that it came from.

use axum::body::Bytes;
use harbinger_core::TenantId;
use serde_json::value::RawValue;

use super::{
    Form, INTAKE_PATH, RefusedLine,
    taken::{Found, Taken},
};
use crate::{
    decode::{Context, Decoded, Names, native},
    pipeline::Pipeline,
};

/// Decodes a body line by line. Blank lines count as lines and hold nothing.
pub(super) fn decode(body: Bytes, form: Form, tenant: TenantId, pipeline: &Pipeline) -> Taken {
    let context = pipeline.context(pipeline.now());
    let mut decoding = Decoding {
        taken: Taken::nothing(INTAKE_PATH.to_owned(), body.clone(), tenant, context.received_at),
        context,
        names: Names::default(),
        decoded: Decoded::default(),
    };
    match form {
        Form::Lines => {
            for (place, text) in body.split(|&byte| byte == b'\n').enumerate() {
                if !text.trim_ascii().is_empty() {
                    decoding.take(place + 1, text.trim_ascii());
                }
            }
        }
        Form::Array => match serde_json::from_slice::<Vec<&RawValue>>(&body) {
            Ok(elements) => {
                for (place, element) in elements.into_iter().enumerate() {
                    decoding.take(place + 1, element.get().as_bytes());
                }
            }
            // A body that is no array is one message.
            Err(reason) => {
                decoding.taken.lines = 1;
                decoding.refuse(1, &body, format!("not a JSON array: {reason}"));
            }
        },
    }
    decoding.taken.empty = decoding.decoded.empty;
    decoding.taken
}

struct Decoding {
    taken: Taken,
    context: Context,
    names: Names,
    decoded: Decoded,
}

impl Decoding {
    fn take(&mut self, line: usize, text: &[u8]) {
        let taken = &mut self.taken;
        taken.lines += 1;
        match native::read_line(text, &mut taken.devices, &self.context, &mut self.names, &mut self.decoded) {
            Ok(device) => {
                let text = Taken::place_of(&taken.body, text);
                let readings = self.decoded.readings.drain(..);
                taken.readings.extend(readings.map(|content| Found { line, text: text.clone(), device, content }));
                let events = self.decoded.events.drain(..);
                taken.events.extend(events.map(|content| Found { line, text: text.clone(), device, content }));
            }
            Err(reason) => self.refuse(line, text, reason),
        }
    }

    fn refuse(&mut self, line: usize, text: &[u8], reason: String) {
        let text = Taken::place_of(&self.taken.body, text);
        self.taken.refused.push((RefusedLine { line, reason }, text));
    }
}
