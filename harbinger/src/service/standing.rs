//! What analytics measured of a model in production, in the words of the interface.

use harbinger_analytics::evaluate::{self, pictures};
use harbinger_api::standing::{
    AtCapacityView, BinView, Example, FlaggedView, LeadTimeView, OperatingView, Outcome, PointView, ShadowSideView,
    ShadowView, SignalShareView, Standing,
};
use harbinger_core::Timestamp;

/// As the interface shows it.
pub(super) fn shown(standing: evaluate::Standing) -> Standing {
    let evaluate::Standing { model_version, hardware_model, span, report, curves } = standing;
    let of_rows = |value: fn(&evaluate::Bin) -> f64| {
        report.reliability.iter().map(|bin| bin.rows * value(bin)).sum::<f64>() / report.rows.max(1) as f64
    };
    let (predicted, actual) = (of_rows(|bin| bin.mean_p), of_rows(|bin| bin.frequency));
    let view = |bin: &evaluate::Bin| BinView {
        from: bin.from,
        predictions: bin.rows,
        mean_p: bin.mean_p,
        frequency: bin.frequency,
    };
    Standing {
        model_version,
        hardware_model,
        from: span.from,
        to: span.to,
        horizon_hours: span.horizon.hours(),
        predictions: report.rows,
        device_months: report.device_months,
        failures: report.failures,
        flagged: report
            .flagged
            .iter()
            .map(|flagged| FlaggedView { hours_ahead: flagged.hours_ahead, failures: flagged.flagged })
            .collect(),
        false_alarms: report.false_alarms,
        false_alarms_per_1000_device_months: 1000.0 * report.false_alarms_per_device_month,
        precision: report.precision,
        recall: report.recall,
        at_capacity: report
            .at_capacity
            .iter()
            .map(|crew| AtCapacityView {
                visits_per_day: crew.visits_per_day,
                visits: crew.visits,
                precision: crew.precision,
                failures: crew.found,
            })
            .collect(),
        brier: report.brier,
        brier_base: report.brier_base,
        predicted_over_actual: (actual > 0.0).then(|| predicted / actual),
        reliability: report.reliability.iter().map(view).collect(),
        precision_recall: curves
            .precision_recall
            .iter()
            .map(|at| OperatingView { probability: at.probability, precision: at.precision, recall: at.recall })
            .collect(),
        lead_times: curves
            .lead_times
            .iter()
            .map(|bar| LeadTimeView { from_hours: bar.from_hours, to_hours: bar.to_hours, failures: bar.failures })
            .collect(),
        top_signals: curves
            .top_signals
            .into_iter()
            .map(|signal| SignalShareView { name: signal.name, share: signal.share })
            .collect(),
    }
}

/// Champion and challenger as the interface shows them.
pub(super) fn shadow(comparison: evaluate::Comparison) -> ShadowView {
    let evaluate::Comparison { rows, failures, champion, challenger, difference, interval } = comparison;
    let side = |evaluate::Side { brier, alarms, hits }: evaluate::Side| ShadowSideView { brier, alarms, hits };
    ShadowView { rows, failures, champion: side(champion), challenger: side(challenger), difference, interval }
}

/// An example as the interface shows it.
pub(super) fn example(example: pictures::Example) -> Example {
    let points = |curve: Vec<(Timestamp, f64)>| curve.into_iter().map(|(ts, value)| PointView { ts, value }).collect();
    Example {
        outcome: match example.outcome {
            pictures::Outcome::Foreseen => Outcome::Foreseen,
            pictures::Outcome::Missed => Outcome::Missed,
            pictures::Outcome::FalseAlarm => Outcome::FalseAlarm,
        },
        device: example.device,
        component: example.component,
        at: example.at,
        threshold: example.threshold,
        prediction_id: example.highest,
        because: example.because,
        signal: example.signal,
        probabilities: points(example.probabilities),
        values: points(example.values),
    }
}
