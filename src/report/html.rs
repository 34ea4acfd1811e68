//! Pieces of every page: its head, safe text, numbers and models in words.

use std::fmt::Write;

use crate::device::{Activation, Norm};
use crate::model::{ModelConfig, Objective, Order};

/// The beginning of a page with `title`, up to its heading: the training report's style, and `more` of it.
pub(crate) fn opening(title: &str, more: &str) -> String {
    let (title, style) = (escape(title), style());
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>{style}\n\
         .results {{ max-width: none; }}\n.results th, .results td {{ width: auto; }}\n.best td {{ font-weight: 600; }}\n{more}\
         </style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    )
}

/// The style sheet of every page.
pub(crate) fn style() -> &'static str {
    let page = include_str!("page.html");
    page.split_once("<style>").and_then(|(_, rest)| rest.split_once("</style>")).map_or("", |(style, _)| style)
}

/// `template` with each `{{name}}` replaced by what `value` has for it. One pass, so that nothing that is filled in can be taken
/// for a placeholder.
pub(crate) fn filled(template: &str, mut value: impl FnMut(&str) -> String) -> String {
    let mut page = String::new();
    for part in template.split("{{") {
        match part.split_once("}}") {
            None => page.push_str(part),
            Some((name, rest)) => {
                page.push_str(&value(name));
                page.push_str(rest);
            }
        }
    }
    page
}

/// Makes text safe between tags and in quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// `78.60 %`, or a dash.
pub fn percent(fraction: Option<f64>) -> String {
    fraction.map_or("–".to_owned(), |fraction| format!("{:.2} %", 100.0 * fraction))
}

/// `76,571,648`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `2 h 5 min`, `3 min 20 s`, `12.3 s`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A model in words: `4 layers × 128, 4 heads, 256 positions, rms norm, quick GELU, no biases`.
pub fn describe_model(config: &ModelConfig) -> String {
    let norm = match config.norm {
        Norm::Rms => "rms norm",
        Norm::Layer => "layer norm",
    };
    let activation = match config.activation {
        Activation::QuickGelu => "quick GELU",
        Activation::Gelu => "GELU",
    };
    let bias = if config.bias { "biases" } else { "no biases" };

    let ModelConfig { layers, width, heads, positions, .. } = config;
    let mut text =
        format!("{layers} layers × {width}, {heads} heads, {positions} positions, {norm}, {activation}, {bias}");

    // What is not the rule.
    if config.objective() == Objective::Bert {
        text.push_str(", BERT");
    }
    if config.order != Order::Raster {
        let _ = write!(text, ", pixels in the order {}", config.order.name());
    }
    if !config.classes.is_empty() {
        let _ = write!(text, ", a head for {} classes", config.classes.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_words() {
        assert_eq!([0, 999, 1000, 76_571_648].map(grouped), ["0", "999", "1,000", "76,571,648"]);
        assert_eq!([3.21, 200.0, 7500.0].map(duration), ["3.2 s", "3 min 20 s", "2 h 5 min"]);
    }
}
