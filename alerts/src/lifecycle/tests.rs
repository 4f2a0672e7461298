//! Goal: an alert is raised once per cause and clears only when the cause is gone, whatever the probability does.

use super::*;
use proptest::prelude::*;

/// Above it the model of these tests alarms; clearing level 0.2.
const THRESHOLD: f64 = 0.4;

fn hour(hour: i64) -> Timestamp {
    Timestamp::from_millis(1_420_070_400_000 + hour * 3_600_000)
}

fn observation(at_hour: i64, probability: f64) -> Observation {
    Observation {
        device: DeviceId::parse("d1").unwrap(),
        component: ComponentId::parse("fan").unwrap(),
        failure_mode: "predicted".into(),
        ts: hour(at_hour),
        probability: Probability::saturating(probability),
        alarm: probability >= THRESHOLD,
        threshold: Probability::saturating(THRESHOLD),
        severity: if probability >= 0.8 { Severity::Critical } else { Severity::Warning },
        summary: format!("at {probability}"),
        reasons: vec![],
        prediction_id: Some(format!("prd_{at_hour}")),
    }
}

fn alert(at_hour: i64, probability: f64) -> Alert {
    raised("alr_1".to_owned(), &observation(at_hour, probability))
}

/// Feeds probabilities, one an hour, and writes what became of them: `R`aise, `u`pdate, `E`scalate, `C`lear, `.` nothing.
#[track_caller]
fn check(probabilities: &[f64], expected: &str) {
    assert_eq!(trace(probabilities, &HysteresisOptions::default()), expected, "{probabilities:?}");
}

fn trace(probabilities: &[f64], options: &HysteresisOptions) -> String {
    let (mut standing, mut ending, mut trace) = (None::<Alert>, None, String::new());
    for (at_hour, &probability) in probabilities.iter().enumerate() {
        let observation = observation(at_hour as i64, probability);
        trace.push(match observe(standing.as_ref(), ending, &observation, options) {
            Transition::Raise => {
                assert!(standing.is_none(), "a second alert beside a standing one");
                standing = Some(raised("alr_1".to_owned(), &observation));
                'R'
            }
            Transition::Update { alert, escalated } => {
                standing = Some(*alert);
                if escalated { 'E' } else { 'u' }
            }
            Transition::Resolve(alert) => {
                ending = alert.ended_at().map(|at| Ending { at, by_service: false });
                standing = None;
                'C'
            }
            Transition::Nothing => '.',
        });
    }
    trace
}

#[test]
fn raised_at_the_threshold_and_cleared_after_the_hold() {
    check(&[0.1, 0.39, 0.4, 0.5], "..Ru");
    check(&[0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], "RuuuuuuC.");
}

#[test]
fn between_the_clearing_level_and_the_threshold_the_hold_begins_anew() {
    check(&[0.5, 0.1, 0.1, 0.1, 0.1, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], "RuuuuuuuuuuuC");
}

#[test]
fn flapping_around_the_threshold_raises_once() {
    check(&[0.41, 0.39, 0.42, 0.1, 0.41, 0.1, 0.45, 0.39], "Ruuuuuuu");
}

#[test]
fn a_rising_probability_escalates_once() {
    check(&[0.5, 0.7, 0.8, 0.9, 0.5], "RuEuu");
}

#[test]
fn without_hold_it_clears_at_once_and_may_be_raised_again_later() {
    let options = HysteresisOptions { min_hold: Duration::ZERO, ..HysteresisOptions::default() };
    assert_eq!(trace(&[0.5, 0.1, 0.5], &options), "RCR");
    let quiet = HysteresisOptions { quiet_time: Duration::from_hours(3), ..options };
    assert_eq!(trace(&[0.5, 0.1, 0.5, 0.5, 0.5], &quiet), "RC..R");
}

#[test]
fn a_repeated_or_late_observation_changes_nothing() {
    let standing = alert(10, 0.5);
    let options = HysteresisOptions::default();
    for at_hour in [10, 9] {
        assert_eq!(observe(Some(&standing), None, &observation(at_hour, 0.9), &options), Transition::Nothing);
    }
    let ending = Some(Ending { at: hour(12), by_service: false });
    assert_eq!(observe(None, ending, &observation(12, 0.9), &options), Transition::Nothing);
    assert_eq!(observe(None, ending, &observation(13, 0.9), &options), Transition::Raise);
}

#[test]
fn after_service_the_window_still_sees_the_old_piece_so_a_day_stays_quiet() {
    let ending = Some(Ending { at: hour(0), by_service: true });
    let options = HysteresisOptions::default();
    assert_eq!(observe(None, ending, &observation(23, 0.9), &options), Transition::Nothing);
    assert_eq!(observe(None, ending, &observation(24, 0.9), &options), Transition::Raise);
}

#[test]
fn the_worst_prediction_explains_the_alert() {
    let options = HysteresisOptions::default();
    let Transition::Update { alert: worse, .. } = observe(Some(&alert(0, 0.5)), None, &observation(1, 0.7), &options)
    else {
        panic!("not updated")
    };
    let Transition::Update { alert: later, .. } = observe(Some(&worse), None, &observation(2, 0.6), &options) else {
        panic!("not updated")
    };
    assert_eq!((later.probability.get(), later.peak_probability.get()), (0.6, 0.7));
    assert_eq!((later.summary.as_str(), later.prediction_id.as_deref()), ("at 0.7", Some("prd_1")));
}

#[test]
fn service_ends_an_alert_and_a_failure_suggests_that_it_was_right() {
    use {MaintenanceAction as A, MaintenanceReason as R};
    let standing = alert(5, 0.5);
    let outcome = |at_hour, action, reason| {
        serviced(&standing, hour(at_hour), action, reason).map(|alert| {
            assert_eq!(alert.state, AlertState::Resolved);
            alert.outcome
        })
    };
    assert_eq!(outcome(6, A::Replaced, R::Failure), Some(Some(Outcome::Confirmed)));
    assert_eq!(outcome(6, A::Repaired, R::Failure), Some(Some(Outcome::Confirmed)));
    assert_eq!(outcome(6, A::Replaced, R::Planned), Some(None));
    assert_eq!(outcome(6, A::Inspected, R::Planned), None);
    assert_eq!(outcome(6, A::Repaired, R::Planned), None);
    assert_eq!(outcome(4, A::Replaced, R::Failure), None);
}

#[test]
fn people_move_alerts_only_forward() {
    let open = alert(0, 0.5);
    let acknowledged = acknowledge(&open, hour(1), "eve").unwrap();
    let in_progress = start(&acknowledged, hour(2), "bob").unwrap();
    assert_eq!(in_progress.acknowledged_by.as_deref(), Some("eve"));
    assert_eq!(start(&open, hour(2), "bob").unwrap().acknowledged_by.as_deref(), Some("bob"));
    let resolved = resolve(&in_progress, hour(3)).unwrap();
    let closing = Closing { outcome: Outcome::Confirmed, component: None, comment: Some("seized".to_owned()) };
    let closed = close(&resolved, hour(4), "eve", &closing).unwrap();
    assert_eq!((closed.resolved_at, closed.closed_at), (Some(hour(3)), Some(hour(4))));

    for (alert, may) in [(&open, "asrc"), (&acknowledged, "src"), (&in_progress, "rc"), (&resolved, "c"), (&closed, "")]
    {
        let allowed = [
            ('a', acknowledge(alert, hour(9), "eve").is_ok()),
            ('s', start(alert, hour(9), "eve").is_ok()),
            ('r', resolve(alert, hour(9)).is_ok()),
            ('c', close(alert, hour(9), "eve", &closing).is_ok()),
        ];
        let allowed: String = allowed.iter().filter(|(_, ok)| *ok).map(|(letter, _)| *letter).collect();
        assert_eq!(allowed, may, "{}", alert.state);
    }
    assert_eq!(
        acknowledge(&closed, hour(9), "eve").unwrap_err().to_string(),
        "the alert is closed, so it cannot be acknowledged"
    );
}

#[test]
fn another_component_must_be_named_and_only_then() {
    let open = alert(0, 0.5);
    let fan = Some(ComponentId::parse("psu").unwrap());
    let other = |component| Closing { outcome: Outcome::OtherComponent, component, comment: None };
    assert_eq!(close(&open, hour(1), "eve", &other(None)), Err(Refused::ComponentMissing));
    assert_eq!(close(&open, hour(1), "eve", &other(fan.clone())).unwrap().outcome_component, fan);
    let odd = Closing { outcome: Outcome::NoFaultFound, component: fan, comment: None };
    assert!(matches!(close(&open, hour(1), "eve", &odd), Err(Refused::ComponentUnexpected { .. })));
}

proptest! {
    /// Any course of probabilities: raises and clears alternate (never two open), the alert clears only after the hold,
    /// and peak and severity never fall while it stands.
    #[test]
    fn raises_and_clears_alternate(probabilities in proptest::collection::vec(0.0f64..1.0, 1..200), hold in 0i64..10) {
        let options = HysteresisOptions { min_hold: Duration::from_hours(hold), ..HysteresisOptions::default() };
        let trace = trace(&probabilities, &options);
        let turns: String = trace.chars().filter(|c| "RC".contains(*c)).collect();
        prop_assert!(!turns.contains("RR") && !turns.contains("CC") && !turns.starts_with('C'), "{trace}");
        for (at, _) in trace.match_indices('C') {
            let held = &probabilities[at - hold as usize..=at];
            prop_assert!(held.iter().all(|&p| p < 0.5 * THRESHOLD), "cleared at {at} after {held:?}");
        }
    }

    /// A probability that never falls below the clearing level raises at most once, however it flaps.
    #[test]
    fn above_the_clearing_level_it_is_raised_at_most_once(
        probabilities in proptest::collection::vec(0.2f64..1.0, 1..200),
    ) {
        let trace = trace(&probabilities, &HysteresisOptions::default());
        prop_assert!(trace.matches('R').count() <= 1 && !trace.contains('C'), "{trace}");
    }

    /// Feeding every observation twice gives the same end as feeding it once.
    #[test]
    fn repeats_are_harmless(probabilities in proptest::collection::vec(0.0f64..1.0, 1..50)) {
        let options = HysteresisOptions::default();
        let mut standing: Option<Alert> = None;
        for (at_hour, &probability) in probabilities.iter().enumerate() {
            let observation = observation(at_hour as i64, probability);
            match observe(standing.as_ref(), None, &observation, &options) {
                Transition::Raise => standing = Some(raised("alr_1".to_owned(), &observation)),
                Transition::Update { alert, .. } => standing = Some(*alert),
                Transition::Resolve(_) => standing = None,
                Transition::Nothing => {}
            }
            if standing.is_some() {
                prop_assert_eq!(observe(standing.as_ref(), None, &observation, &options), Transition::Nothing);
            }
        }
    }
}
