//! Says of PTX files whether the simulator reads them: `cargo run --release -p cudasim --example check_ptx -- *.ptx`.

use cudasim::ptx;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for path in std::env::args().skip(1) {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                eprintln!("{path}: {error}");
                code = ExitCode::FAILURE;
                continue;
            }
        };

        let start = Instant::now();
        let module = ptx::parse(&text);
        let took = start.elapsed().as_secs_f64() * 1e3;

        match module {
            Ok(module) => {
                let instructions =
                    module.functions.iter().filter_map(|f| f.body.as_ref()).map(|b| b.instructions.len());
                let (count, functions) = (instructions.sum::<usize>(), module.functions.len());
                println!("{path}: {functions} functions, {count} instructions, {took:.2} ms");
            }
            Err(error) => {
                eprintln!("{path}: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
