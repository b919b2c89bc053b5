//! What is printed of a figure: one JSON object a line for programs, a table for people.

use std::fmt;

use serde_json::{Value, json};

use super::Outcome;

/// What a figure has to reach (design §8).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Target {
    /// Whether a value reaches it.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Target::AtMost(most) => value <= most,
            Target::AtLeast(least) => value >= least,
        }
    }

    fn number(self) -> f64 {
        match self {
            Target::AtMost(number) | Target::AtLeast(number) => number,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::AtMost(number) => write!(f, "≤ {number}"),
            Target::AtLeast(number) => write!(f, "≥ {number}"),
        }
    }
}

/// What a measurement found.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The figure's value, in the figure's unit.
    pub value: f64,
    /// What is to be read with it, name and text.
    pub beside: Vec<(&'static str, String)>,
}

impl Measured {
    /// A value with nothing beside it.
    pub fn new(value: f64) -> Self {
        Measured { value, beside: Vec::new() }
    }

    /// Adds something to be read with it.
    pub fn beside(mut self, name: &'static str, text: impl fmt::Display) -> Self {
        self.beside.push((name, text.to_string()));
        self
    }
}

/// One figure as it came out.
#[derive(Debug)]
pub struct Row {
    /// The figure's name.
    pub figure: &'static str,
    /// The unit of value and target.
    pub unit: &'static str,
    /// What it has to reach.
    pub target: Target,
    /// The value, or why there is none.
    pub measured: Outcome<Measured>,
}

impl Row {
    /// Whether the target is reached; what could not be measured does not reach it.
    pub fn holds(&self) -> bool {
        self.measured.as_ref().is_ok_and(|measured| self.target.holds(measured.value))
    }

    /// One JSON object, without a line end.
    pub fn json(&self) -> String {
        let mut fields = vec![("figure", json!(self.figure))];
        match &self.measured {
            Ok(measured) => fields.push(("value", short(measured.value))),
            Err(_) => fields.push(("value", Value::Null)),
        }
        fields.push(("unit", json!(self.unit)));
        fields.push(("target", short(self.target.number())));
        fields.push(("holds", json!(self.holds())));
        match &self.measured {
            Ok(measured) if measured.beside.is_empty() => {}
            Ok(measured) => {
                let beside = measured.beside.iter().map(|(name, text)| ((*name).to_owned(), json!(text)));
                fields.push(("beside", Value::Object(beside.collect())));
            }
            Err(error) => fields.push(("error", json!(error.to_string()))),
        }
        // By hand, so that they come in this order.
        let fields: Vec<String> = fields.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
        format!("{{{}}}", fields.join(", "))
    }
}

/// Four digits behind the point are more than any of these measurements is worth; whole numbers get none.
fn short(value: f64) -> Value {
    let rounded = (value * 1e4).round() / 1e4;
    #[expect(clippy::cast_possible_truncation, reason = "checked to be a whole number within bounds")]
    match rounded.fract() == 0.0 && rounded.abs() < 1e15 {
        true => json!(rounded as i64),
        false => json!(rounded),
    }
}

/// The table for people.
pub fn table(rows: &[Row]) -> String {
    let mut text = format!("{:26} {:>10} {:14} {:>10}  holds\n", "figure", "value", "unit", "target");
    for row in rows {
        let value = row.measured.as_ref().map_or("none".into(), |measured| short(measured.value).to_string());
        let holds = if row.holds() { "yes" } else { "NO" };
        text += &format!(
            "{:26} {value:>10} {:14} {:>10}  {holds}\n",
            row.figure,
            row.unit,
            row.target.to_string()
        );
        match &row.measured {
            Ok(measured) => {
                for (name, beside) in &measured.beside {
                    text += &format!("    {name}: {beside}\n");
                }
            }
            Err(error) => text += &format!("    not measured: {error}\n"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(target: Target, value: f64) -> Row {
        let measured = Ok(Measured::new(value).beside("mapping", "7 MiB"));
        Row { figure: "rss", unit: "MiB", target, measured }
    }

    #[test]
    fn targets_hold_on_their_own_side_and_at_the_bound() {
        assert!(Target::AtMost(20.0).holds(20.0) && !Target::AtMost(20.0).holds(20.1));
        assert!(Target::AtLeast(0.8).holds(0.8) && !Target::AtLeast(0.8).holds(0.7999));
        assert!(!Target::AtMost(1.0).holds(f64::NAN) && !Target::AtLeast(1.0).holds(f64::NAN));
    }

    #[test]
    fn a_row_is_one_line_of_json() {
        let line = row(Target::AtMost(20.0), 11.1234567).json();
        assert!(!line.contains('\n'));
        assert!(
            line.starts_with(r#"{"figure": "rss", "value": 11.1235, "unit": "MiB", "target": 20, "#),
            "{line}"
        );
        let parsed: Value = serde_json::from_str(&line).unwrap();
        let expected = json!({"figure": "rss", "value": 11.1235, "unit": "MiB", "target": 20, "holds": true, "beside": {"mapping": "7 MiB"}});
        assert_eq!(parsed, expected);
    }

    #[test]
    fn what_could_not_be_measured_is_a_row_that_does_not_hold() {
        let row = Row { measured: Err("no root".into()), ..row(Target::AtMost(20.0), 0.0) };
        let parsed: Value = serde_json::from_str(&row.json()).unwrap();
        assert_eq!((&parsed["value"], &parsed["holds"]), (&Value::Null, &json!(false)));
        assert_eq!(parsed["error"], "no root");
        assert!(table(&[row]).contains("not measured: no root"));
    }
}
