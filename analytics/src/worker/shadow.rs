//! A challenger's time in shadow: what it said beside the champion, and what came of it.

use harbinger_core::{Duration, TenantId, Timestamp};
use harbinger_store::{Ledger, ledger, ledger::shadow};

use super::{Error, outcomes, reading::Known};
use crate::{
    evaluate::{Comparing, Comparison, Said},
    failure::{Family, Model},
};

/// Pairs read at a time: between two pages others may read the ledger.
const PAGE: usize = 20_000;

/// What was found of a challenger when its time in shadow was over.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The challenger's version.
    pub version: String,
    /// What the two told beside what came.
    pub comparison: Comparison,
    /// Whether it takes over; else it retires.
    pub promoted: bool,
}

/// What a comparison stands on.
pub(super) struct Trial {
    pub(super) comparison: Comparison,
    /// Event time from the first to the last row whose truth is known.
    pub(super) span: Duration,
}

/// Compares what two versions said of the same slots and times, as far as the truth is known at `at`.
///
/// * `horizon`: main horizon of both.
pub(super) async fn compare(
    ledger: &Ledger,
    tenant: &TenantId,
    known: &Known,
    versions: (&str, &str),
    horizon: Duration,
    at: Timestamp,
) -> Result<Trial, ledger::Error> {
    let truth = outcomes::truth(ledger, tenant, known, at).await?;
    let until = at - horizon + Duration::from_millis(1);
    let mut comparing = Comparing::default();
    let (mut first, mut last) = (None, None);
    let mut after = None;
    loop {
        let page = shadow::pairs(&mut *ledger.read().await?, tenant, versions, until, after.as_ref(), PAGE).await?;
        let full = page.len() == PAGE;
        after = page.last().map(|pair| pair.key.clone());
        for pair in page {
            let said = (
                Said { probability: pair.champion, alarm: pair.champion_alarm },
                Said { probability: pair.challenger, alarm: pair.challenger_alarm },
            );
            first = first.or(Some(pair.key.ts));
            last = Some(pair.key.ts);
            comparing.add((pair.key.device, pair.key.component, pair.key.ts), said, &truth, horizon);
        }
        if !full {
            break;
        }
    }
    let between = |(first, last): (Timestamp, Timestamp)| Duration::from_millis(last.millis() - first.millis());
    let span = first.zip(last).map_or(Duration::ZERO, between);
    Ok(Trial { comparison: comparing.finish(), span })
}

/// What a version in shadow said so far beside the champion; `None` where the tenant has no champion or the version is not in
/// shadow.
///
/// * `at`: event time until which the truth is known.
///
/// # Errors
/// [`Error::Ledger`].
pub async fn comparison(
    ledger: &Ledger,
    tenant: &TenantId,
    version: &str,
    at: Timestamp,
) -> Result<Option<Comparison>, Error> {
    let mut read = ledger.read().await?;
    let champion = ledger::models::champion(&mut read, tenant).await?;
    let challenger = ledger::models::challenger(&mut read, tenant).await?.filter(|row| row.version == version);
    drop(read);
    let (Some(champion), Some(challenger)) = (champion, challenger) else { return Ok(None) };
    let Some(&horizon) = challenger.horizons.first() else { return Ok(None) };
    let known = Known::load(ledger, tenant, at).await?;
    let versions = (champion.version.as_str(), challenger.version.as_str());
    Ok(Some(compare(ledger, tenant, &known, versions, horizon, at).await?.comparison))
}

/// Why a new model takes over without a time in shadow, where it does.
pub(super) fn at_once(champion: &Model, new: &Model, drifted: bool) -> Option<&'static str> {
    let same_question = champion.horizons == new.horizons && champion.every == new.every;
    let knows = |family: &Family| {
        champion
            .family(&family.kind)
            .is_some_and(|known| family.components.keys().all(|component| known.components.contains_key(component)))
    };
    if champion.version == new.version {
        Some("it is the champion, trained again")
    } else if !same_question {
        Some("it has other horizons or steps")
    } else if new.failures() >= 2 * champion.failures().max(1) {
        Some("it learnt from at least twice as many failures")
    } else if !new.families.iter().all(knows) {
        Some("it knows devices or components that the champion does not")
    } else if drifted {
        Some("the fleet no longer looks like what the champion learnt from")
    } else {
        None
    }
}
