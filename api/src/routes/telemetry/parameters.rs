//! Reading the parameters of a range query: `device` is the one that may be repeated, for names that hold commas.

use axum::{
    extract::FromRequestParts,
    http::{Uri, request::Parts},
};

use super::asked::RangeParameters;
use crate::{
    errors::{Code, Error, Result},
    extract::Query,
};

impl<S: Send + Sync> FromRequestParts<S> for RangeParameters {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let pairs = parts.uri.query().unwrap_or_default().split('&');
        let (devices, others): (Vec<&str>, Vec<&str>) =
            pairs.partition(|pair| pair.split('=').next() == Some("device"));
        if devices.len() < 2 {
            return Query::of(&parts.uri).map(|Query(parameters)| parameters);
        }
        let Query(devices): Query<Vec<(String, String)>> = Query::of(&with_query(&devices)?)?;
        let Query(mut parameters): Query<Self> = Query::of(&with_query(&others)?)?;
        parameters.devices = devices.into_iter().map(|(_, device)| device).collect();
        Ok(parameters)
    }
}

fn with_query(pairs: &[&str]) -> Result<Uri> {
    let uri = format!("/?{}", pairs.join("&")).parse();
    uri.map_err(|error| Error::new(Code::BadRequest, format!("query: {error}")))
}
