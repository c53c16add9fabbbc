//! Medians, percentiles, spread.
//!
//! Invariant: no figure is made up: of nothing measured the answer is NaN, which the tables show as missing.

/// The middle of several rounds, with the lowest and the highest.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// The median, or the best.
    pub mid: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

impl Spread {
    /// Of some rounds' figures.
    pub fn of(values: &[f64]) -> Spread {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted.first().copied().unwrap_or(f64::NAN), sorted.last().copied().unwrap_or(f64::NAN));
        Spread { mid: quantile(&sorted, 0.5), low, high }
    }

    /// Of some rounds' figures of which the highest, the least disturbed, is to count.
    pub fn best(values: &[f64]) -> Spread {
        let spread = Spread::of(values);
        Spread { mid: spread.high, ..spread }
    }

    /// Best round through best round, within what the rounds' ratios were.
    pub fn best_ratio(of: &[f64], to: &[f64]) -> Spread {
        Spread { mid: Spread::best(of).mid / Spread::best(to).mid, ..Spread::ratio(of, to) }
    }

    /// Round by round, one through the other.
    pub fn ratio(of: &[f64], to: &[f64]) -> Spread {
        Spread::of(&of.iter().zip(to).map(|(a, b)| a / b).collect::<Vec<_>>())
    }
}

/// A quantile (0 to 1) of sorted figures, interpolated.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    if sorted.is_empty() {
        return f64::NAN;
    }
    let at = q * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

/// Many single times, in microseconds.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<f64>);

impl Times {
    /// Adds one.
    pub fn add(&mut self, micros: f64) {
        self.0.push(micros);
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// A quantile (0 to 1), in microseconds.
    pub fn at(&self, q: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        quantile(&sorted, q)
    }

    /// Puts another's times to these.
    pub fn join(&mut self, other: Times) {
        self.0.extend(other.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_interpolated_and_nothing_is_nan() {
        let mut times = Times::default();
        assert!(times.at(0.5).is_nan());
        for micros in [40.0, 10.0, 30.0, 20.0] {
            times.add(micros);
        }
        assert_eq!((times.at(0.0), times.at(0.5), times.at(1.0), times.len()), (10.0, 25.0, 40.0, 4));
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        let ratio = Spread::ratio(&[1.0, 4.0, 9.0], &[1.0, 2.0, 3.0]);
        assert_eq!((ratio.low, ratio.mid, ratio.high), (1.0, 2.0, 3.0));
        let best = Spread::best_ratio(&[8.0, 4.0], &[1.0, 2.0]);
        assert_eq!((best.low, best.mid, best.high), (2.0, 4.0, 8.0));
    }
}
