//! The README's example: `greeter` serves, `greeter` with the argument `visit` calls it once a second.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod program {
    use ::greeter::Greeter;
    use ipc_api::greeter;
    use smi_rt::Env;

    smi_rt::entry!(main);

    fn main(env: &'static Env) -> ! {
        if env.args() == "visit" {
            visit(env)
        }
        let mut server = Greeter;
        smi_app::serve(env, "greeter", &greeter::INTERFACE, |call, reply| greeter::dispatch(&mut server, call, reply))
    }

    fn visit(env: &'static Env) -> ! {
        loop {
            match smi_app::resolve(env, "greeter").map(greeter::Client::new) {
                Ok(mut greeter) => match greeter.greet(env.name()) {
                    Ok(text) => defmt::info!("{}", text),
                    Err(error) => defmt::warn!("not greeted: {}", error),
                },
                Err(error) => defmt::warn!("no greeter: {}", error),
            }
            smi_app::sleep_ns(env, 1_000_000_000);
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {}
