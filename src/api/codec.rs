//! How the server reads and writes messages: as `tonic_prost` does, except that bytes which are no message are the caller's
//! mistake (INVALID_ARGUMENT), not a defect of ours. Clients use `tonic_prost`'s own codec.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

use super::status::RequestError;

/// Writes `Response`s and reads `Request`s.
#[derive(Debug)]
pub(super) struct ServerCodec<Response, Request>(PhantomData<(Response, Request)>);

/// Reads `Request`s.
#[derive(Debug)]
pub(super) struct RequestDecoder<Request>(PhantomData<Request>);

impl<Response, Request> Default for ServerCodec<Response, Request> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Response, Request> Codec for ServerCodec<Response, Request>
where
    Response: Message + Send + 'static,
    Request: Message + Default + Send + 'static,
{
    type Encode = Response;
    type Decode = Request;
    type Encoder = ProstEncoder<Response>;
    type Decoder = RequestDecoder<Request>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        RequestDecoder(PhantomData)
    }
}

impl<Request: Message + Default> Decoder for RequestDecoder<Request> {
    type Item = Request;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Request>, Status> {
        let request = Request::decode(bytes).map_err(RequestError::Undecodable)?;
        Ok(Some(request))
    }
}
