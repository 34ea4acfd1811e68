//! The `igpt-engine` binary: hands over to [`igpt_engine::cli`].

fn main() -> std::process::ExitCode {
    igpt_engine::cli::main()
}
