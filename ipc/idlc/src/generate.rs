//! Checked interfaces to Rust.
//!
//! Each interface becomes a module: constants, types, `Client`, `Server`, `dispatch`, `reply`, `raw`, `INTERFACE`.
//! Names inside generated functions start with `idl_`, which interface files cannot use.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};

use crate::Options;
use crate::model::{
    CapParam, Enum, Field, Interface, Layout, Message, Method, Order, Part, ResultKind, Struct, Ty, Value,
};
use crate::names::{camel, kernel_marker, words};

/// Rust source of all `interfaces`, formatted. The error says what the printer refused: a defect of this compiler.
pub fn rust(interfaces: &[Interface], options: Options) -> Result<String, String> {
    let modules = interfaces.iter().map(|interface| module(interface, options));
    let names = interfaces.iter().map(|interface| format_ident!("{}", interface.name));
    let tokens = quote! {
        #(#modules)*
        /// Every interface, by name.
        pub static INTERFACES: &[&::ipc_wire::Interface] = &[#(&#names::INTERFACE),*];
    };
    let file = syn::parse2(tokens).map_err(|error| format!("generated code does not parse: {error}"))?;
    Ok(prettyplease::unparse(&file))
}

fn ident(name: &str) -> proc_macro2::Ident {
    format_ident!("{}", name)
}

fn number(value: usize) -> Literal {
    Literal::usize_unsuffixed(value)
}

fn docs(lines: &[String], otherwise: &str) -> TokenStream {
    let fallback = [otherwise.to_owned()];
    let lines = if lines.is_empty() { &fallback[..] } else { lines };
    let lines = lines.iter().map(|line| format!(" {line}"));
    quote!(#(#[doc = #lines])*)
}

fn module(interface: &Interface, options: Options) -> TokenStream {
    let name = ident(&interface.name);
    let title = format!("Interface `{}` {}.{}.", interface.name, interface.major, interface.minor);
    let docs = docs(&interface.docs, &title);
    let id = Literal::u64_unsuffixed(interface.id());
    let consts = interface.consts.iter().map(|one| {
        let (name, ty) = (ident(&one.name), ident(&one.ty.name()));
        let (docs, value) = (self::docs(&one.docs, &one.name), Literal::u64_unsuffixed(one.value));
        quote!(#docs pub const #name: #ty = #value;)
    });
    let labels = interface.methods.iter().map(|method| {
        let (name, ordinal) = (ident(&method.name.to_uppercase()), number(method.ordinal.into()));
        let docs = format!(" Of `{}`.", method.name);
        quote!(#[doc = #docs] pub const #name: u64 = ::ipc_wire::Label::new(super::ID, #ordinal).bits();)
    });
    let enums = interface.enums.iter().map(|one| enumeration(one, options));
    let structs = interface.structs.iter().map(|one| structure(interface, one, options));
    let results =
        interface.methods.iter().filter(|m| m.kind == ResultKind::Several).map(|m| result(interface, m, options));
    let error = error(&interface.errors, options);
    let raw = raw(interface);
    let client = client(interface);
    let server = server(interface);
    let reply = reply(interface);
    let table = table(interface);
    quote! {
        #docs
        #[allow(clippy::too_many_arguments, clippy::let_unit_value, clippy::large_types_passed_by_value)]
        pub mod #name {
            /// The 40-bit id: hash of name and major version.
            pub const ID: u64 = #id;
            /// Marks capabilities to this interface.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum Protocol {}
            #(#consts)*
            /// Request labels.
            pub mod label { #(#labels)* }
            #error
            #(#enums)*
            #(#structs)*
            #(#results)*
            #client
            #server
            #reply
            #raw
            #table
        }
    }
}

/// Derives of types that programs see.
fn derives(options: Options) -> TokenStream {
    let defmt = options.defmt.then(|| quote!(#[cfg_attr(feature = "defmt", derive(defmt::Format))]));
    quote!(#[derive(Clone, Copy, Debug, PartialEq, Eq)] #defmt)
}

/// Derives of types that stand in payloads.
fn raw_derives() -> TokenStream {
    quote! {
        #[derive(
            ::zerocopy::TryFromBytes, ::zerocopy::IntoBytes, ::zerocopy::Immutable, ::zerocopy::KnownLayout
        )]
    }
}

fn variants(values: &[Value]) -> impl Iterator<Item = TokenStream> {
    values.iter().map(|value| {
        let (name, number) = (ident(&value.name), Literal::u64_unsuffixed(value.value));
        let docs = docs(&value.docs, &(capital(&words(&value.name)) + "."));
        quote!(#docs #name = #number)
    })
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_ascii_uppercase().to_string() + chars.as_str())
}

fn error(errors: &[Value], options: Options) -> TokenStream {
    let derives = derives(options);
    let names: Vec<_> = errors.iter().map(|error| ident(&error.name)).collect();
    let codes: Vec<_> = errors.iter().map(|error| Literal::u64_unsuffixed(error.value)).collect();
    let meanings = errors.iter().map(|error| {
        let text = error.docs.join(" ");
        if text.is_empty() { words(&error.name) } else { text.trim_end_matches('.').to_owned() }
    });
    let from_code = if errors.is_empty() {
        quote!(Err(code))
    } else {
        quote!(match code { #(#codes => Ok(Self::#names),)* _ => Err(code) })
    };
    let (variants, repr, to_code, meaning) = if errors.is_empty() {
        (quote!(), quote!(), quote!(match error {}), quote!(match self {}))
    } else {
        let variants = variants(errors);
        let meaning = quote!(match self { #(Self::#names => #meanings),* });
        (quote!(#(#variants),*), quote!(#[repr(u16)]), quote!(error as u16), meaning)
    };
    quote! {
        /// Why a server refuses.
        #derives
        #repr
        pub enum Error { #variants }
        impl Error {
            /// What it means, in words for a log or a terminal.
            pub const fn meaning(self) -> &'static str { #meaning }
        }
        impl ::core::fmt::Display for Error {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.write_str(self.meaning())
            }
        }
        impl ::core::error::Error for Error {}
        impl ::core::convert::From<Error> for u16 {
            fn from(error: Error) -> u16 { #to_code }
        }
        impl ::core::convert::TryFrom<u16> for Error {
            /// The unknown code.
            type Error = u16;
            fn try_from(code: u16) -> ::core::result::Result<Self, u16> {
                #from_code
            }
        }
        impl ::core::convert::From<Error> for ::ipc_wire::Refusal<Error> {
            fn from(error: Error) -> Self { Self::Error(error) }
        }
    }
}

fn enumeration(one: &Enum, options: Options) -> TokenStream {
    let (name, repr) = (ident(&one.name), ident(&one.repr.name()));
    let docs = docs(&one.docs, &one.name);
    let (derives, raw_derives) = (derives(options), raw_derives());
    let variants = variants(&one.values);
    quote! {
        #docs
        #derives
        #raw_derives
        #[repr(#repr)]
        pub enum #name { #(#variants),* }
        impl ::ipc_wire::Wire for #name {
            type Raw = Self;
            fn to_raw(&self) -> Self { *self }
            fn from_raw(raw: &Self) -> Option<Self> { Some(*raw) }
        }
    }
}

/// The Rust type of a value.
fn rust_type(interface: &Interface, ty: &Ty) -> TokenStream {
    match ty {
        Ty::Int(int) => {
            let name = ident(&int.name());
            quote!(#name)
        }
        Ty::Bool => quote!(bool),
        Ty::Str(max) => {
            let max = number(*max);
            quote!(::ipc_wire::Str<#max>)
        }
        Ty::Bytes(max) => {
            let max = number(*max);
            quote!(::ipc_wire::Bytes<#max>)
        }
        Ty::Array(element, count) => {
            let (element, count) = (rust_type(interface, element), number(*count));
            quote!([#element; #count])
        }
        Ty::Struct(index) => {
            let name = ident(&interface.structs[*index].name);
            quote!(#name)
        }
        Ty::Enum(index) => {
            let name = ident(&interface.enums[*index].name);
            quote!(#name)
        }
    }
}

/// The type of a field in module `raw`.
fn raw_type(interface: &Interface, part: &Part) -> TokenStream {
    match part {
        Part::Window(_) => quote!(::ipc_wire::WindowRef),
        Part::Value(ty) => raw_value(interface, ty),
    }
}

fn raw_value(interface: &Interface, ty: &Ty) -> TokenStream {
    match ty {
        Ty::Str(max) | Ty::Bytes(max) => {
            let max = number(*max);
            quote!(::ipc_wire::Bytes<#max>)
        }
        Ty::Array(element, count) => {
            let (element, count) = (raw_value(interface, element), number(*count));
            quote!([#element; #count])
        }
        Ty::Enum(index) => {
            let name = ident(&interface.enums[*index].name);
            quote!(super::#name)
        }
        Ty::Int(_) | Ty::Bool | Ty::Struct(_) => rust_type(interface, ty),
    }
}

/// What a parameter or result of that capability is in Rust, named from the interface's module.
fn cap_type(cap: &CapParam) -> TokenStream {
    cap_type_from(cap, &quote!(super))
}

/// The same, where `root` leads to the module of all interfaces.
fn cap_type_from(cap: &CapParam, root: &TokenStream) -> TokenStream {
    let marker = match kernel_marker(&cap.what) {
        Some(marker) => {
            let marker = ident(marker);
            quote!(::ipc_wire::kernel::#marker)
        }
        None if cap.what == "any" => quote!(::ipc_wire::Any),
        None => {
            let module = ident(&cap.what);
            quote!(#root::#module::Protocol)
        }
    };
    quote!(::ipc_wire::Cap<#marker>)
}

/// A parameter: text and data by slice, composites by reference, numbers by value.
fn param_type(interface: &Interface, ty: &Ty) -> TokenStream {
    let rust = rust_type(interface, ty);
    match ty {
        Ty::Str(_) => quote!(&str),
        Ty::Bytes(_) => quote!(&[u8]),
        Ty::Array(..) | Ty::Struct(_) => quote!(&#rust),
        Ty::Int(_) | Ty::Bool | Ty::Enum(_) => rust,
    }
}

fn structure(interface: &Interface, one: &Struct, options: Options) -> TokenStream {
    let name = ident(&one.name);
    let docs = docs(&one.docs, &one.name);
    let derives = derives(options);
    let fields = one.layout.fields.iter().map(|field| public_field(interface, field));
    let names: Vec<_> = one.layout.fields.iter().map(|field| ident(&field.name)).collect();
    let values = names.iter().map(|name| quote!(::ipc_wire::Wire::to_raw(&self.#name)));
    let build = build_raw(&one.layout, &one.name, values);
    quote! {
        #docs
        #derives
        pub struct #name { #(#fields),* }
        impl ::ipc_wire::Wire for #name {
            type Raw = raw::#name;
            fn to_raw(&self) -> raw::#name { #build }
            fn from_raw(idl_raw: &raw::#name) -> Option<Self> {
                Some(Self { #(#names: ::ipc_wire::Wire::from_raw(&idl_raw.#names)?),* })
            }
        }
    }
}

fn public_field(interface: &Interface, field: &Field) -> TokenStream {
    let docs = docs(&field.docs, &(capital(&field.name.replace('_', " ")) + "."));
    let name = ident(&field.name);
    let Part::Value(ty) = &field.part else { return quote!() };
    let ty = rust_type(interface, ty);
    quote!(#docs pub #name: #ty)
}

/// `raw::Name { field: value, ..., padding }`
fn build_raw(layout: &Layout, name: &str, values: impl Iterator<Item = TokenStream>) -> TokenStream {
    let name = ident(name);
    let names = layout.fields.iter().map(|field| ident(&field.name));
    let pads = paddings(layout).map(|(pad, _)| quote!(#pad: [::ipc_wire::Zero::Zero; _]));
    quote!(raw::#name { #(#names: #values,)* #(#pads),* })
}

/// Names and sizes of the padding fields, in order; the field before which each stands is found by its gap.
fn paddings(layout: &Layout) -> impl Iterator<Item = (proc_macro2::Ident, usize)> {
    let gaps = layout.fields.iter().map(|field| field.gap).chain([layout.tail]);
    gaps.enumerate().filter(|(_, gap)| *gap > 0).map(|(i, gap)| (format_ident!("_pad{}", i), gap))
}

/// The struct a result of several values is handed over as.
fn result(interface: &Interface, method: &Method, options: Options) -> TokenStream {
    let name = result_name(method);
    let docs = format!(" Result of `{}`.", method.name);
    let derives = derives(options);
    let fields = method.reply.order.iter().map(|order| match order {
        Order::Field(i) => public_field(interface, &method.reply.layout.fields[*i]),
        Order::Cap(i) => {
            let cap = &method.reply.caps[*i];
            let (name, ty) = (ident(&cap.name), cap_type(cap));
            let docs = format!(" {}.", capital(&cap.name.replace('_', " ")));
            quote!(#[doc = #docs] pub #name: #ty)
        }
    });
    quote!(#[doc = #docs] #derives pub struct #name { #(#fields),* })
}

fn result_name(method: &Method) -> proc_macro2::Ident {
    format_ident!("{}Result", camel(&method.name))
}

/// The Rust type of a method's result, named from the interface's module.
fn result_type(interface: &Interface, method: &Method) -> TokenStream {
    result_type_from(interface, method, &quote!(super))
}

fn result_type_from(interface: &Interface, method: &Method, root: &TokenStream) -> TokenStream {
    match method.kind {
        ResultKind::Nothing => quote!(()),
        ResultKind::Several => {
            let name = result_name(method);
            quote!(#name)
        }
        ResultKind::One => match (method.reply.layout.fields.first(), method.reply.caps.first()) {
            (Some(Field { part: Part::Value(ty), .. }), _) => rust_type(interface, ty),
            (_, Some(cap)) => cap_type_from(cap, root),
            _ => quote!(()),
        },
    }
}

fn raw(interface: &Interface) -> TokenStream {
    let structs = interface.structs.iter().map(|one| raw_struct(interface, &one.name, &one.layout));
    let messages = interface.methods.iter().flat_map(|method| {
        [(&method.request, "Request"), (&method.reply, "Reply")].map(|(message, suffix)| {
            if message.layout.fields.is_empty() {
                quote!()
            } else {
                raw_struct(interface, &(camel(&method.name) + suffix), &message.layout)
            }
        })
    });
    quote! {
        /// Payload layouts: what goes through message registers, padding included.
        pub mod raw { #(#structs)* #(#messages)* }
    }
}

fn raw_struct(interface: &Interface, name: &str, layout: &Layout) -> TokenStream {
    let docs = format!(" Layout, {} bytes.", layout.size);
    let (ident_, size) = (ident(name), number(layout.size));
    let mut pads = paddings(layout).peekable();
    let mut fields = Vec::new();
    let mut pad = |wanted: bool| {
        pads.next_if(|_| wanted).map(|(name, size)| {
            let size = number(size);
            quote!(#[doc = " Zero."] pub #name: [::ipc_wire::Zero; #size])
        })
    };
    for field in &layout.fields {
        fields.extend(pad(field.gap > 0));
        let (name, ty) = (ident(&field.name), raw_type(interface, &field.part));
        let docs = format!(" At byte {}.", field.offset);
        fields.push(quote!(#[doc = #docs] pub #name: #ty));
    }
    fields.extend(pad(layout.tail > 0));
    let derives = raw_derives();
    quote! {
        #[doc = #docs]
        #[derive(Clone, Copy, Debug)]
        #derives
        #[repr(C)]
        pub struct #ident_ { #(#fields),* }
        const _: () = assert!(::core::mem::size_of::<#ident_>() == #size);
    }
}

/// Parameters as `name: type`.
fn params(interface: &Interface, message: &Message, client: bool) -> Vec<TokenStream> {
    let one = |order: &Order| match order {
        Order::Field(i) => {
            let field = &message.layout.fields[*i];
            let name = ident(&field.name);
            let ty = match (&field.part, client) {
                (Part::Value(ty), _) => param_type(interface, ty),
                (Part::Window(true), true) => quote!(&[u8]),
                (Part::Window(false), true) => quote!(&mut [u8]),
                (Part::Window(true), false) => quote!(::ipc_wire::InWindow<'_>),
                (Part::Window(false), false) => quote!(::ipc_wire::OutWindow<'_>),
            };
            quote!(#name: #ty)
        }
        Order::Cap(i) => {
            let (name, ty) = (ident(&message.caps[*i].name), cap_type(&message.caps[*i]));
            quote!(#name: #ty)
        }
    };
    message.order.iter().map(one).collect()
}

fn client(interface: &Interface) -> TokenStream {
    let methods = interface.methods.iter().map(|method| client_method(interface, method));
    quote! {
        /// Calls a server through a transport; does not know whether the server is local or on another node.
        #[derive(Clone, Copy, Debug)]
        pub struct Client<T> { idl_transport: T }
        impl<T: ::ipc_wire::Transport> Client<T> {
            /// A client that calls through `transport`.
            pub const fn new(transport: T) -> Self { Self { idl_transport: transport } }
            /// The transport.
            pub fn transport(&mut self) -> &mut T { &mut self.idl_transport }
            /// Gives the transport back.
            pub fn into_transport(self) -> T { self.idl_transport }
            #(#methods)*
        }
    }
}

fn client_method(interface: &Interface, method: &Method) -> TokenStream {
    let (name, label) = (ident(&method.name), ident(&method.name.to_uppercase()));
    let docs = docs(&method.docs, &method.name);
    let params = params(interface, &method.request, true);
    let result = result_type(interface, method);
    let plan = client_windows(method);
    let values = method.request.layout.fields.iter().map(client_value);
    let (request, bytes) = if method.request.layout.fields.is_empty() {
        (quote!(), quote!(&[]))
    } else {
        let build = build_raw(&method.request.layout, &(camel(&method.name) + "Request"), values);
        (quote!(let idl_request = #build;), quote!(::zerocopy::IntoBytes::as_bytes(&idl_request)))
    };
    let caps = method.request.caps.iter().map(|cap| {
        let name = ident(&cap.name);
        quote!(#name.raw())
    });
    let size = number(method.reply.layout.size);
    let count = number(method.reply.caps.len());
    let copy_out = client_copies(method, false);
    let decode = client_result(method);
    let payload = if method.reply.layout.fields.is_empty() { quote!(_) } else { quote!(idl_payload) };
    quote! {
        #docs
        pub fn #name(&mut self, #(#params),*) -> ::core::result::Result<#result, ::ipc_wire::CallError<Error>> {
            #plan
            #request
            let mut idl_buffer = [0u8; ::ipc_wire::codec::reply_buffer(#size)];
            let idl_call = ::ipc_wire::Request { label: label::#label, bytes: #bytes, caps: &[#(#caps),*] };
            let idl_reply = self.idl_transport.call(idl_call, &mut idl_buffer)?;
            let #payload = ::ipc_wire::codec::sort_reply::<Error>(&idl_reply, &idl_buffer, #size, #count)?;
            #copy_out
            #decode
        }
    }
}

/// Places the windows and copies the `in` ones to the session buffer.
fn client_windows(method: &Method) -> TokenStream {
    let windows: Vec<_> =
        method.request.layout.fields.iter().filter(|field| matches!(field.part, Part::Window(_))).collect();
    if windows.is_empty() {
        return quote!();
    }
    let names = windows.iter().map(|field| ident(&field.name));
    let places = windows.iter().map(|field| format_ident!("idl_at_{}", field.name));
    let copies = client_copies(method, true);
    quote! {
        let mut idl_plan = ::ipc_wire::codec::WindowPlan::new(self.idl_transport.session());
        #(let #places = idl_plan.place(#names.len())?;)*
        #copies
    }
}

fn client_copies(method: &Method, input: bool) -> TokenStream {
    let copies = method.request.layout.fields.iter().filter(|field| field.part == Part::Window(input)).map(|field| {
        let (name, at) = (ident(&field.name), format_ident!("idl_at_{}", field.name));
        let way = if input { ident("write") } else { ident("read") };
        quote!(self.idl_transport.session().#way(#at.offset as usize, #name)?;)
    });
    quote!(#(#copies)*)
}

/// A request field from the client's parameter.
fn client_value(field: &Field) -> TokenStream {
    let name = ident(&field.name);
    match &field.part {
        Part::Window(_) => {
            let at = format_ident!("idl_at_{}", field.name);
            quote!(#at)
        }
        Part::Value(Ty::Str(max)) => {
            let max = number(*max);
            quote!(::ipc_wire::codec::text::<#max>(#name)?)
        }
        Part::Value(Ty::Bytes(max)) => {
            let max = number(*max);
            quote!(::ipc_wire::codec::data::<#max>(#name)?)
        }
        Part::Value(Ty::Array(..) | Ty::Struct(_)) => quote!(::ipc_wire::Wire::to_raw(#name)),
        Part::Value(_) => quote!(::ipc_wire::Wire::to_raw(&#name)),
    }
}

/// The result from `idl_payload` and `idl_reply`.
fn client_result(method: &Method) -> TokenStream {
    let raw = format_ident!("{}Reply", camel(&method.name));
    let read = if method.reply.layout.fields.is_empty() {
        quote!()
    } else {
        quote!(let idl_raw: raw::#raw = ::ipc_wire::codec::read(idl_payload)?;)
    };
    let value = |order: &Order| match order {
        Order::Field(i) => {
            let name = ident(&method.reply.layout.fields[*i].name);
            (name.clone(), quote!(::ipc_wire::codec::value(&idl_raw.#name)?))
        }
        Order::Cap(i) => {
            let i_ = number(*i);
            (ident(&method.reply.caps[*i].name), quote!(::ipc_wire::codec::cap(idl_reply.caps.as_slice(), #i_)?))
        }
    };
    let (names, values): (Vec<_>, Vec<_>) = method.reply.order.iter().map(value).unzip();
    match method.kind {
        ResultKind::Nothing => quote!(Ok(())),
        ResultKind::One => quote!(#read Ok(#(#values)*)),
        ResultKind::Several => {
            let name = result_name(method);
            quote!(#read Ok(#name { #(#names: #values),* }))
        }
    }
}

fn server(interface: &Interface) -> TokenStream {
    let methods = interface.methods.iter().map(|method| {
        let (name, docs) = (ident(&method.name), docs(&method.docs, &method.name));
        let params = params(interface, &method.request, false);
        let result = result_type(interface, method);
        let caller = method.request.layout.fields.iter().any(|field| field.name == "caller");
        let caller = ident(if caller { "idl_caller" } else { "caller" });
        quote! {
            #docs
            fn #name(&mut self, #caller: ::ipc_wire::Caller, #(#params),*) -> ::ipc_wire::Answer<#result, Error>;
        }
    });
    let labels = interface.methods.iter().map(|method| ident(&method.name.to_uppercase()));
    let handlers: Vec<_> = interface.methods.iter().map(|method| format_ident!("idl_on_{}", method.name)).collect();
    let bodies = interface.methods.iter().map(server_handler);
    quote! {
        /// What a server of this interface does. Arguments are checked; the first names the caller and the call.
        pub trait Server { #(#methods)* }
        /// Checks a call and hands it to `server`. The reply's payload goes to the start of `buffer`, which has
        /// [`ipc_wire::MAX_PAYLOAD`] bytes. Anything malformed is answered here and never reaches the server.
        pub fn dispatch<S: Server + ?Sized>(
            server: &mut S,
            incoming: &::ipc_wire::Incoming<'_>,
            buffer: &mut [u8],
        ) -> ::ipc_wire::Dispatched {
            let answer = match incoming.label {
                #(label::#labels => #handlers(server, incoming, buffer),)*
                _ => Err(::ipc_wire::LinkError::NoMethod),
            };
            answer.unwrap_or_else(|error| ::ipc_wire::Dispatched::Reply(::ipc_wire::Reply::link_error(error)))
        }
        #(#bodies)*
    }
}

fn server_handler(method: &Method) -> TokenStream {
    let (name, handler) = (ident(&method.name), format_ident!("idl_on_{}", method.name));
    let caps = number(method.request.caps.len());
    let check = if method.request.layout.fields.is_empty() {
        quote!(::ipc_wire::codec::check_empty(idl_incoming, #caps)?;)
    } else {
        let raw = format_ident!("{}Request", camel(&method.name));
        quote!(let idl_raw: raw::#raw = ::ipc_wire::codec::request(idl_incoming, #caps)?;)
    };
    let mut lets = Vec::new();
    let mut args = Vec::new();
    for order in &method.request.order {
        match order {
            Order::Field(i) => {
                let (binding, arg) = server_value(&method.request.layout.fields[*i]);
                lets.push(binding);
                args.push(arg);
            }
            Order::Cap(i) => {
                let i = number(*i);
                args.push(quote!(::ipc_wire::codec::cap(idl_incoming.caps, #i)?));
            }
        }
    }
    quote! {
        fn #handler<S: Server + ?Sized>(
            idl_server: &mut S,
            idl_incoming: &::ipc_wire::Incoming<'_>,
            idl_buffer: &mut [u8],
        ) -> ::core::result::Result<::ipc_wire::Dispatched, ::ipc_wire::LinkError> {
            #check
            #(#lets)*
            Ok(match idl_server.#name(idl_incoming.from, #(#args),*) {
                Ok(result) => ::ipc_wire::Dispatched::Reply(reply::#name(&result, idl_buffer)),
                Err(refusal) => ::ipc_wire::codec::refuse(refusal, idl_incoming.from.token, idl_buffer),
            })
        }
    }
}

/// Checks one field of a request: a `let`, and the argument made of it.
fn server_value(field: &Field) -> (TokenStream, TokenStream) {
    let name = ident(&field.name);
    let session = quote!(idl_incoming.session);
    match &field.part {
        Part::Window(true) => {
            (quote!(let #name = ::ipc_wire::InWindow::check(#session, idl_raw.#name)?;), quote!(#name))
        }
        Part::Window(false) => {
            (quote!(let #name = ::ipc_wire::OutWindow::check(#session, idl_raw.#name)?;), quote!(#name))
        }
        Part::Value(ty) => {
            let value = match ty {
                Ty::Str(max) => {
                    let max = number(*max);
                    quote!(let #name: ::ipc_wire::Str<#max> = ::ipc_wire::codec::value(&idl_raw.#name)?;)
                }
                Ty::Bytes(max) => {
                    let max = number(*max);
                    quote!(let #name: ::ipc_wire::Bytes<#max> = ::ipc_wire::codec::value(&idl_raw.#name)?;)
                }
                _ => quote!(let #name = ::ipc_wire::codec::value(&idl_raw.#name)?;),
            };
            let by_reference = matches!(ty, Ty::Str(_) | Ty::Bytes(_) | Ty::Array(..) | Ty::Struct(_));
            (value, if by_reference { quote!(&#name) } else { quote!(#name) })
        }
    }
}

fn reply(interface: &Interface) -> TokenStream {
    let methods = interface.methods.iter().map(|method| reply_method(interface, method));
    quote! {
        /// Encoding of answers, for servers that answer later.
        pub mod reply {
            #[allow(unused_imports)]
            use super::*;
            /// An error.
            pub fn error(error: Error, buffer: &mut [u8]) -> ::ipc_wire::Reply {
                ::ipc_wire::codec::error_reply(error.into(), buffer)
            }
            #(#methods)*
        }
    }
}

fn reply_method(interface: &Interface, method: &Method) -> TokenStream {
    let name = ident(&method.name);
    let docs = format!(" The result of `{}`.", method.name);
    let several = method.kind == ResultKind::Several;
    let values = method.reply.layout.fields.iter().map(|field| {
        let name = ident(&field.name);
        let value = if several { quote!(&result.#name) } else { quote!(result) };
        quote!(::ipc_wire::Wire::to_raw(#value))
    });
    let caps = method.reply.caps.iter().map(|cap| {
        let name = ident(&cap.name);
        if several { quote!(result.#name.raw()) } else { quote!(result.raw()) }
    });
    let raw = if method.reply.layout.fields.is_empty() {
        quote!([0u8; 0])
    } else {
        build_raw(&method.reply.layout, &(camel(&method.name) + "Reply"), values)
    };
    let ty = result_type_from(interface, method, &quote!(super::super));
    let result = if method.kind == ResultKind::Nothing { quote!(_result) } else { quote!(result) };
    quote! {
        #[doc = #docs]
        pub fn #name(#result: &#ty, buffer: &mut [u8]) -> ::ipc_wire::Reply {
            let idl_raw = #raw;
            ::ipc_wire::codec::ok_reply(&idl_raw, &[#(#caps),*], buffer)
        }
    }
}

fn table(interface: &Interface) -> TokenStream {
    let name = &interface.name;
    let (major, minor) = (Literal::u16_unsuffixed(interface.major), Literal::u16_unsuffixed(interface.minor));
    let local = interface.local;
    let methods = interface.methods.iter().map(|method| {
        let (ordinal, name, idempotent) = (number(method.ordinal.into()), &method.name, method.idempotent);
        let (request, reply) = (shape(interface, &method.request), shape(interface, &method.reply));
        quote!(::ipc_wire::Method {
            ordinal: #ordinal, name: #name, idempotent: #idempotent, request: #request, reply: #reply
        })
    });
    let errors = named(&interface.errors);
    quote! {
        /// The interface as data.
        pub static INTERFACE: ::ipc_wire::Interface = ::ipc_wire::Interface {
            name: #name, major: #major, minor: #minor, id: ID, local: #local,
            methods: &[#(#methods),*],
            errors: #errors,
        };
    }
}

fn named(values: &[Value]) -> TokenStream {
    let values = values.iter().map(|value| {
        let (name, number) = (&value.name, Literal::u64_unsuffixed(value.value));
        quote!((#name, #number))
    });
    quote!(&[#(#values),*])
}

fn shape(interface: &Interface, message: &Message) -> TokenStream {
    let size = number(message.layout.size);
    let caps = message.caps.iter().map(|cap| {
        let (name, what) = (&cap.name, &cap.what);
        quote!(::ipc_wire::desc::CapField { name: #name, what: #what })
    });
    let fields = fields(interface, &message.layout);
    quote!(::ipc_wire::desc::Shape { size: #size, caps: &[#(#caps),*], fields: #fields })
}

fn fields(interface: &Interface, layout: &Layout) -> TokenStream {
    let fields = layout.fields.iter().map(|field| {
        let (name, offset) = (&field.name, number(field.offset));
        let ty = match &field.part {
            Part::Window(true) => quote!(::ipc_wire::desc::Type::Window(::ipc_wire::desc::Direction::In)),
            Part::Window(false) => quote!(::ipc_wire::desc::Type::Window(::ipc_wire::desc::Direction::Out)),
            Part::Value(ty) => described(interface, ty),
        };
        quote!(::ipc_wire::desc::Field { name: #name, offset: #offset, ty: #ty })
    });
    quote!(&[#(#fields),*])
}

/// A type in the table. Depth is bounded: a struct only contains those declared above it.
fn described(interface: &Interface, ty: &Ty) -> TokenStream {
    let size = number(interface.size(ty));
    let variant = match ty {
        Ty::Int(int) if int.signed => quote!(Signed(#size)),
        Ty::Int(_) => quote!(Unsigned(#size)),
        Ty::Bool => quote!(Bool),
        Ty::Str(max) => {
            let max = number(*max);
            quote!(Str(#max))
        }
        Ty::Bytes(max) => {
            let max = number(*max);
            quote!(Bytes(#max))
        }
        Ty::Array(element, count) => {
            let (element, count) = (described(interface, element), number(*count));
            quote!(Array(&#element, #count))
        }
        Ty::Struct(index) => {
            let one = &interface.structs[*index];
            let (name, fields) = (&one.name, fields(interface, &one.layout));
            quote!(Struct { name: #name, size: #size, fields: #fields })
        }
        Ty::Enum(index) => {
            let one = &interface.enums[*index];
            let (name, values) = (&one.name, named(&one.values));
            quote!(Enum { name: #name, size: #size, values: #values })
        }
    };
    quote!(::ipc_wire::desc::Type::#variant)
}
