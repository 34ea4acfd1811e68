//! Charts as SVG that the page's style sheet recolours for dark screens.

use plotters::prelude::*;

/// Sizes in SVG units: as wide as the page, and as half of it, so that labels come out in their own size. On a phone both are
/// shrunk to its width; the style sheet then enlarges the wide one's labels.
pub(crate) const WIDE: (u32, u32) = (920, 400);
pub(crate) const HALF: (u32, u32) = (440, 280);

// The light theme's colours; `page.html` finds them by these values to replace them with its own variables.
const RULE: RGBColor = RGBColor(0xD9, 0xDE, 0xE3);
pub(crate) const FIRST: RGBColor = RGBColor(0x1F, 0x6F, 0xEB);
pub(crate) const PALE: RGBColor = RGBColor(0xA9, 0xC8, 0xF5);
pub(crate) const SECOND: RGBColor = RGBColor(0xC2, 0x41, 0x0C);
pub(crate) const THIRD: RGBColor = RGBColor(0x2F, 0x7D, 0x4F);
pub(crate) const FOURTH: RGBColor = RGBColor(0x7C, 0x87, 0x92);
/// Text takes the page's colour.
const TEXT: RGBColor = RGBColor(0x5C, 0x66, 0x70);

pub(crate) type Point = (f64, f64);

/// Something drawn in a chart, and its line in the key below.
pub(crate) struct Curve {
    pub(crate) label: &'static str,
    /// CSS variable of the page that goes with `colour`.
    pub(crate) variable: &'static str,
    pub(crate) colour: RGBColor,
    pub(crate) width: u32,
    pub(crate) points: Vec<Point>,
    pub(crate) mark: Mark,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Mark {
    Line,
    Dashes,
    Dots,
}

/// One figure.
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    pub(crate) size: (u32, u32),
    pub(crate) curves: Vec<Curve>,
}

/// Lowest and highest of some finite values.
pub(super) fn span(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |span, value| match span {
        None => Some((value, value)),
        Some((low, high)) => Some((low.min(value), high.max(value))),
    })
}

/// `span` with some air, never empty, never below zero if the values are not.
fn padded((low, high): (f64, f64)) -> std::ops::Range<f64> {
    let air = if high > low { 0.05 * (high - low) } else { high.abs().max(1e-12) };
    let bottom = if low >= 0.0 { (low - air).max(0.0) } else { low - air };
    bottom..high + air
}

/// A chart with its title and key.
pub(crate) fn figure(chart: &Chart) -> Result<String, String> {
    let mut svg = String::new();
    if chart.curves.iter().any(|curve| !curve.points.is_empty()) {
        draw(chart, &mut svg).map_err(|error| error.to_string())?;
    } else {
        svg.push_str("<p>Nothing was recorded.</p>");
    }
    let key: String = chart
        .curves
        .iter()
        .filter(|curve| !curve.label.is_empty() && !curve.points.is_empty())
        .map(|curve| format!("<li><i class=\"{}\"></i>{}</li>", curve.variable, curve.label))
        .collect();
    let key = if key.is_empty() { key } else { format!("<ul class=\"key\">{key}</ul>\n") };
    let title = chart.title;
    let class = if chart.size == WIDE { "wide" } else { "half" };
    Ok(format!("<figure class=\"{class}\"><figcaption>{title}</figcaption>\n{svg}\n{key}</figure>\n"))
}

fn draw(chart: &Chart, svg: &mut String) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let points = || chart.curves.iter().flat_map(|curve| &curve.points);
    let horizontal = span(points().map(|(step, _)| *step)).unwrap_or((0.0, 1.0));
    let vertical = padded(span(points().map(|(_, value)| *value)).unwrap_or((0.0, 1.0)));
    let horizontal = if horizontal.0 < horizontal.1 { horizontal } else { (horizontal.0 - 1.0, horizontal.1 + 1.0) };

    let area = SVGBackend::with_string(svg, chart.size).into_drawing_area();
    let mut context = ChartBuilder::on(&area)
        .margin(8)
        .margin_right(16)
        .x_label_area_size(36)
        .y_label_area_size(62)
        .build_cartesian_2d(horizontal.0..horizontal.1, vertical)?;
    context
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RULE)
        .axis_style(RULE)
        .x_labels(6)
        .y_labels(6)
        .label_style(("sans-serif", 14).into_font().color(&TEXT))
        .x_label_formatter(&|step| format!("{step:.0}"))
        .y_label_formatter(&|value| number(*value))
        .draw()?;

    for curve in &chart.curves {
        let style = curve.colour.stroke_width(curve.width);
        let points = curve.points.iter().copied();
        match curve.mark {
            Mark::Line => {
                context.draw_series(LineSeries::new(points, style))?;
            }
            Mark::Dashes => {
                context.draw_series(DashedLineSeries::new(points, 6, 4, style))?;
            }
            Mark::Dots => {
                context.draw_series(points.map(|point| Circle::new(point, curve.width, curve.colour.filled())))?;
            }
        }
    }

    drop(context);
    area.present()
}

/// An axis label: short, whatever the magnitude.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-2..1e4).contains(&size) => format!("{value:.1e}"),
        size if size < 1.0 => format!("{value:.3}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_never_empty_nor_needlessly_negative() {
        for (low, high) in [(0.0, 0.0), (1.0, 1.0), (0.01, 4.0), (-2.0, -2.0)] {
            let range = padded((low, high));
            assert!(range.start < range.end && range.contains(&low) && range.contains(&high), "{low} {high}");
            assert!(low < 0.0 || range.start >= 0.0);
        }
    }
}
