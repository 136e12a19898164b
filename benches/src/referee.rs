//! The referee: checks every contender of a case, then times them in turns.
//!
//! The turns go round (A B C A B C ...) in one process, so that a slow moment of the machine strikes all alike.

use crate::{
    buffer::Output,
    cases::Case,
    contest::{Contender, Contest, Difference},
    cost::Cost,
    limits::Pace,
};
use gristmill_limits::{Rates, median, turn};
use rayon::ThreadPool;
use serde::Serialize;
use std::{
    fmt,
    time::{Duration, Instant},
};

/// Rounds that every case gets, whatever its time.
const MIN_ROUNDS: usize = 3;

/// What came out of one case. Serialised, it is one line of the JSON output.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The case's id.
    pub case: String,
    /// Our time and the rates that follow from it.
    pub ours: Timing,
    /// Time at the machine's limit over our time, in percent.
    pub limit_pct: f64,
    /// The others, in the order of their turns.
    pub rivals: Vec<Rival>,
    /// The fastest of them.
    pub best_rival: Option<String>,
    /// Its time over ours: above 1 we are faster.
    pub ratio: Option<f64>,
    /// The machine's rates behind `limit_pct`.
    #[serde(with = "RatesAsObject")]
    pub rates: Rates,
    /// Rivals that returned something else and were not timed.
    pub wrong: Vec<Wrong>,
}

/// How [`Rates`] are serialised.
#[derive(Serialize)]
#[serde(remote = "Rates")]
struct RatesAsObject {
    gflops: f64,
    gbs: f64,
}

/// A time, and what was done in it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Timing {
    /// Median over the turns of the mean time of a call.
    pub median_ns: f64,
    /// Operations per nanosecond, counted as in [`crate::cost`].
    pub gflops: f64,
    /// Bytes per nanosecond, counted as in [`crate::cost`].
    pub gbs: f64,
}

/// A rival's time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rival {
    /// Its name.
    pub name: String,
    /// Median over the turns of the mean time of a call.
    pub median_ns: f64,
    /// Its time over ours.
    pub ratio: f64,
}

/// A contender whose result is not right.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Wrong {
    /// Its name.
    pub name: &'static str,
    /// Where it went wrong.
    pub difference: Difference,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} returned {}", self.name, self.difference)
    }
}

impl std::error::Error for Wrong {}

/// Judges one case inside `pool`, for about `time`, beside the machine's own `pace` for it.
///
/// # Errors
/// [`Wrong`] when our own output is not the naive version's, bit for bit.
pub fn judge(
    case: &Case,
    contest: &dyn Contest,
    pool: &ThreadPool,
    pace: &Pace,
    time: Duration,
) -> Result<Verdict, Wrong> {
    let (mut contenders, wrong) = pool.install(|| admit(contest))?;
    let mut limit = Vec::new();
    let medians = pool.install(|| race(&mut contenders, contest.output(), time, || limit.push(pace.turn())));

    let operations = case.work.operations();
    let total: Cost = operations.iter().copied().sum();
    let rates = raised(Rates::medians(&limit), total, &medians, pace.pinned);
    let limit_ns: f64 = operations.iter().map(|cost| rates.least_ns(cost.flops, cost.bytes)).sum();

    let ours = medians[0];
    let rivals: Vec<Rival> = contenders[1..]
        .iter()
        .zip(&medians[1..])
        .map(|(rival, &median_ns)| Rival { name: rival.name.to_owned(), median_ns, ratio: median_ns / ours })
        .collect();
    let best = rivals.iter().min_by(|a, b| a.median_ns.total_cmp(&b.median_ns));
    Ok(Verdict {
        case: case.to_string(),
        ours: Timing { median_ns: ours, gflops: total.flops as f64 / ours, gbs: total.bytes as f64 / ours },
        limit_pct: 100.0 * limit_ns / ours,
        best_rival: best.map(|rival| rival.name.clone()),
        ratio: best.map(|rival| rival.ratio),
        rivals,
        rates,
        wrong,
    })
}

/// Calls everybody once. Our output must be the naive one; a rival that is not within the tolerance stays out.
fn admit(contest: &dyn Contest) -> Result<(Vec<Contender<'_>>, Vec<Wrong>), Wrong> {
    let mut output = contest.output();
    let mut ours = contest.ours();
    ours.call(&mut output);
    ours.deliver(&mut output);
    let expected = output.values();
    contest.exact(&expected).map_err(|difference| Wrong { name: ours.name, difference })?;

    let (mut contenders, mut wrong) = (vec![ours], Vec::new());
    for mut rival in contest.rivals() {
        output.fill(f32::NAN);
        rival.call(&mut output);
        rival.deliver(&mut output);
        match Difference::beyond(&output.values(), &expected, contest.tolerance()) {
            Ok(()) => contenders.push(rival),
            Err(difference) => wrong.push(Wrong { name: rival.name, difference }),
        }
    }
    Ok((contenders, wrong))
}

/// Rounds of turns until the time is over, the machine's own turn at the end of each; the median of each contender's
/// turns.
fn race(contenders: &mut [Contender<'_>], mut output: Output, time: Duration, mut machine: impl FnMut()) -> Vec<f64> {
    let mut turns = vec![Vec::new(); contenders.len()];
    let start = Instant::now();
    while turns[0].len() < MIN_ROUNDS || start.elapsed() < time {
        for (contender, turns) in contenders.iter_mut().zip(&mut turns) {
            turns.push(turn(|| contender.call(&mut output)));
        }
        machine();
    }
    turns.iter_mut().map(|turns| median(turns)).collect()
}

/// The rates found, but never below what a contender has just shown. Rivals that may use wider registers than the
/// level we are pinned to prove nothing about that level's arithmetic.
fn raised(found: Rates, total: Cost, medians: &[f64], pinned: bool) -> Rates {
    let fastest = medians.iter().copied().fold(f64::INFINITY, f64::min);
    let fastest_at_level = if pinned { medians[0] } else { fastest };
    Rates {
        gflops: found.gflops.max(total.flops as f64 / fastest_at_level),
        gbs: found.gbs.max(total.bytes as f64 / fastest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contest::prepare;

    /// Copies its input; rivals are the same copy, and a wrong one.
    struct Copying(Vec<f32>);

    impl Contest for Copying {
        fn output(&self) -> Output {
            Output::of::<f32>(self.0.len())
        }
        fn ours(&self) -> Contender<'_> {
            Contender::new("ours", |output| output.copy_from_slice(&self.0))
        }
        fn rivals(&self) -> Vec<Contender<'_>> {
            vec![
                Contender::new("same", |output| output.copy_from_slice(&self.0)),
                Contender::owning::<f32, _>("own", || self.0.clone(), |result, output| output.copy_from_slice(result)),
                Contender::new("wrong", |output| output.fill(-1.0)),
            ]
        }
        fn exact(&self, output: &[f32]) -> Result<(), Difference> {
            Difference::in_bits(output, &self.0, 0)
        }
        fn tolerance(&self) -> f32 {
            0.0
        }
    }

    #[test]
    fn wrong_rivals_stay_out() {
        let contest = Copying(vec![1.0, 2.0]);
        let (contenders, wrong) = admit(&contest).unwrap();
        assert_eq!(contenders.iter().map(|c| c.name).collect::<Vec<_>>(), ["ours", "same", "own"]);
        let difference = Difference { index: 0, found: -1.0, expected: 1.0 };
        assert_eq!(wrong, [Wrong { name: "wrong", difference }]);
    }

    #[test]
    fn all_contenders_agree() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        for id in [
            "gemm/f32/nn/9x17x33/t1",
            "gemm/f32/nt/9x17x33/t2",
            "gemm/f32/nn-packed/1x70x33/t1",
            "gemm/f32/nt-packed/1x70x33/t2",
            "gemm-odd/f32/nt-packed/65x70x129/t2",
            "attention/f32/2x3x5x9x8/none/t1",
            "attention/f32/2x3x5x9x8/causal/t2",
            "attention/f32/5x3x5x9x8/keypad/t2",
            "layernorm/f32/3x70/t1",
            "add-layernorm/f32/3x70/t2",
            "softmax/f32/3x70/t1",
            "bias-relu/f32/3x70/t1",
            "bias-gelu/f32/3x70/t2",
            "rmsnorm/f32/3x70/t1",
            "add-rmsnorm/bf16/3x70/t1",
            "log-softmax/f32/3x70/t1",
            "bias-gelu-tanh/f16/3x70/t2",
            "bias-silu/f32/3x70/t1",
            "layernorm/f16/3x70/t1",
            "add-layernorm/bf16/3x70/t2",
            "softmax/f16/3x70/t1",
        ] {
            let case: Case = id.parse().unwrap();
            let contest = prepare(&case).unwrap();
            let (contenders, wrong) = pool.install(|| admit(&*contest)).unwrap();
            assert_eq!(wrong, [], "{id}");
            assert!(contenders.len() >= 2, "{id} has no rival");
        }
    }

    #[test]
    fn everybody_gets_a_turn_in_each_round() {
        let contest = Copying(vec![1.0; 100]);
        let (mut contenders, _) = admit(&contest).unwrap();
        let mut rounds = 0;
        let medians = race(&mut contenders, contest.output(), Duration::ZERO, || rounds += 1);
        assert_eq!(rounds, MIN_ROUNDS);
        assert_eq!(medians.len(), 3);
        assert!(medians.iter().all(|&ns| ns > 0.0));
    }

    #[test]
    fn rates_are_never_below_the_fastest() {
        let found = Rates { gflops: 100.0, gbs: 10.0 };
        let total = Cost { flops: 1200, bytes: 60 };
        assert_eq!(raised(found, total, &[20.0, 15.0], false), found);
        assert_eq!(raised(found, total, &[20.0, 10.0], false), Rates { gflops: 120.0, gbs: 10.0 });
        assert_eq!(raised(found, total, &[20.0, 10.0], true), found);
        assert_eq!(raised(found, total, &[20.0, 5.0], true), Rates { gflops: 100.0, gbs: 12.0 });
    }

    #[test]
    fn a_line_of_json_has_the_agreed_shape() {
        let rival = Rival { name: "gemmkit".into(), median_ns: 20.0, ratio: 2.0 };
        let verdict = Verdict {
            case: "gemm/f32/nt-packed/32x2048x512/t1".into(),
            ours: Timing { median_ns: 10.0, gflops: 6.5, gbs: 0.5 },
            limit_pct: 97.5,
            rivals: vec![rival],
            best_rival: Some("gemmkit".into()),
            ratio: Some(2.0),
            rates: Rates { gflops: 6.7, gbs: 4.5 },
            wrong: vec![Wrong { name: "faer", difference: Difference { index: 3, found: 1.5, expected: 2.0 } }],
        };
        let expected = concat!(
            r#"{"case":"gemm/f32/nt-packed/32x2048x512/t1","ours":{"median_ns":10.0,"gflops":6.5,"gbs":0.5},"#,
            r#""limit_pct":97.5,"rivals":[{"name":"gemmkit","median_ns":20.0,"ratio":2.0}],"#,
            r#""best_rival":"gemmkit","ratio":2.0,"rates":{"gflops":6.7,"gbs":4.5},"#,
            r#""wrong":[{"name":"faer","difference":{"index":3,"found":1.5,"expected":2.0}}]}"#
        );
        assert_eq!(serde_json::to_string(&verdict).unwrap(), expected);
    }
}
