//! Stacked bars with a mark each, as a picture of its own (SVG).

use plotters::prelude::*;

use super::charts::{FIRST, FOURTH, PALE, SECOND, THIRD};

/// A bar: parts on top of one another, and where the mark stands.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What stands left of it.
    pub label: String,
    /// Its parts, from the left, with what each is called.
    pub parts: Vec<(String, f64)>,
    /// The mark's place.
    pub mark: f64,
}

/// Width of the picture, height of a bar with its air, and of what is above and below.
const WIDTH: u32 = 920;
const ROW: u32 = 34;
const FRAME: u32 = 110;

/// Part of a bar's row that is air, on either side.
const AIR: f64 = 0.2;

/// The colours of parts, in turns.
const COLOURS: [RGBColor; 4] = [FIRST, PALE, THIRD, FOURTH];

/// Horizontal bars, the first one uppermost, under a title, over an axis with a unit. Parts of at least an eighth of the longest bar
/// are named within.
///
/// # Errors
/// In words, what the drawing failed of.
pub fn bars(title: &str, unit: &str, bars: &[Bar]) -> Result<String, String> {
    let mut svg = String::new();
    draw(title, unit, bars, &mut svg).map_err(|error| error.to_string())?;
    Ok(svg)
}

fn draw(title: &str, unit: &str, bars: &[Bar], svg: &mut String) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let length = |bar: &Bar| bar.parts.iter().map(|(_, length)| length).sum::<f64>();
    let longest = bars.iter().map(|bar| length(bar).max(bar.mark)).fold(0.0, f64::max).max(1e-9);
    let size = (WIDTH, FRAME + ROW * bars.len() as u32);
    let area = SVGBackend::with_string(svg, size).into_drawing_area();
    area.fill(&WHITE)?;

    let rows = bars.len() as f64;
    let mut context = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(150)
        .build_cartesian_2d(0.0..1.04 * longest, rows..0.0)?;
    context.configure_mesh().disable_y_mesh().disable_y_axis().x_desc(unit).light_line_style(TRANSPARENT).draw()?;

    for (row, bar) in bars.iter().enumerate() {
        let (top, bottom) = (row as f64 + AIR, row as f64 + 1.0 - AIR);
        let middle = (top + bottom) / 2.0;
        let mut start = 0.0;
        for ((name, length), colour) in bar.parts.iter().zip(COLOURS.into_iter().cycle()) {
            let end = start + length;
            context.draw_series([Rectangle::new([(start, top), (end, bottom)], colour.filled())])?;
            if *length > longest / 8.0 {
                let style = ("sans-serif", 11).into_font().color(if colour == PALE { &BLACK } else { &WHITE });
                context.draw_series([Text::new(name.clone(), (start + 0.005 * longest, middle - 0.15), style)])?;
            }
            start = end;
        }
        let mark = [(bar.mark, top - AIR / 2.0), (bar.mark, bottom + AIR / 2.0)];
        context.draw_series([PathElement::new(mark, SECOND.stroke_width(3))])?;
    }

    // Labels stand left of the axis, in the picture's own coordinates.
    for (row, bar) in bars.iter().enumerate() {
        let (_, y) = context.backend_coord(&(0.0, row as f64 + 0.5));
        let style = ("sans-serif", 13).into_font().color(&BLACK);
        area.draw(&Text::new(bar.label.clone(), (12, y - 7), style))?;
    }
    drop(context);
    area.present()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_has_its_label_its_parts_and_its_mark() {
        let bar = |label: &str, parts: &[f64]| Bar {
            label: label.to_owned(),
            parts: parts.iter().map(|length| (format!("part {length}"), *length)).collect(),
            mark: 1.5,
        };
        let svg = bars("A step", "ms", &[bar("linear", &[3.0, 2.0]), bar("<adam>", &[0.1])]).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("linear") && svg.contains("part 3") && !svg.contains("<adam>"));
        assert!(!svg.contains("part 0.1"), "too short for its name");
        assert!(svg.matches("<polyline").count() >= 2 && svg.matches("<rect").count() >= 4, "{svg}");
        assert!(bars("", "", &[]).is_ok());
    }
}
