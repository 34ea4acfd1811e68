//! Accuracy of linear probes on ImageNet against parameters: the paper's Table 2 as a picture, with our own runs in it.

use plotters::prelude::*;

use super::Results;
use crate::recipe::Table;

/// Width and height, SVG units.
const SIZE: (u32, u32) = (920, 560);
/// Millions of parameters that are shown, with room for names at the right.
const PARAMETERS: std::ops::Range<f64> = 15.0..40_000.0;

/// A point with its name.
struct Mark {
    name: String,
    millions: f64,
    accuracy: f64,
}

/// The picture, an SVG file; what the paper prints no parameters of is not in it.
///
/// # Errors
/// Those of the drawing library, in words.
pub fn accuracy_by_parameters(results: &Results) -> Result<String, String> {
    let Some(table) = results.tables.iter().find(|table| table.table == Table::LinearProbe) else {
        return Err("there is no table of linear probes".to_owned());
    };
    let compared: Vec<Mark> = table
        .compared
        .iter()
        .filter(|row| row.group == "ImageNet")
        .filter_map(|row| {
            let millions = f64::from(row.parameters_millions?);
            Some(Mark { name: row.method.to_owned(), millions, accuracy: row.published })
        })
        .collect();

    // Of Image GPT, published and measured.
    let (mut published, mut ours) = (Vec::new(), Vec::new());
    for row in &table.rows {
        let Some(name) = row.name.strip_prefix("ImageNet, ") else { continue };
        let mark = |name: String, accuracy| Mark { name, millions: row.parameters as f64 / 1e6, accuracy };
        published.extend(row.published.map(|accuracy| mark(name.to_owned(), accuracy)));
        ours.extend(row.ours.as_ref().map(|found| mark(format!("{name}, ours"), found.value)));
    }

    let mut svg = String::new();
    draw(&[(compared, GREY), (published, BLUE), (ours, RED)], &mut svg).map_err(|error| error.to_string())?;
    Ok(svg)
}

const GREY: RGBColor = RGBColor(0x5C, 0x66, 0x70);
const BLUE: RGBColor = RGBColor(0x1F, 0x6F, 0xEB);
const RED: RGBColor = RGBColor(0xC2, 0x41, 0x0C);

fn draw(series: &[(Vec<Mark>, RGBColor)], svg: &mut String) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let accuracies = || series.iter().flat_map(|(marks, _)| marks).map(|mark| mark.accuracy);
    let (low, high) = (accuracies().fold(100.0, f64::min), accuracies().fold(0.0, f64::max));

    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut context = ChartBuilder::on(&area)
        .margin(12)
        .caption("Linear probes on ImageNet: grey others, blue Image GPT as published, red ours", ("sans-serif", 16))
        .x_label_area_size(40)
        .y_label_area_size(54)
        .build_cartesian_2d(PARAMETERS.log_scale(), (low - 3.0).max(0.0)..(high + 3.0).min(100.0))?;
    context
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("parameters, millions")
        .y_desc("accuracy, %")
        .x_label_formatter(&|millions| format!("{millions:.0}"))
        .y_label_formatter(&|accuracy| format!("{accuracy:.0}"))
        .draw()?;

    for (marks, colour) in series {
        let dots = marks.iter().map(|mark| Circle::new((mark.millions, mark.accuracy), 4, colour.filled()));
        context.draw_series(dots)?;
        let style = ("sans-serif", 13).into_font().color(colour);
        // Beside its dot: a tenth further on the axis of logarithms.
        let names = marks.iter().map(|mark| {
            let words = format!("{} {:.1}", mark.name, mark.accuracy);
            Text::new(words, (mark.millions * 1.08, mark.accuracy + 0.4), style.clone())
        });
        context.draw_series(names)?;
    }
    drop(context);
    area.present()
}
