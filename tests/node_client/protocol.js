// The services as the protos describe them, loaded as they are, without generated code.

import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const PROTOS = fileURLToPath(new URL("../../protos", import.meta.url));

export function surfaceService(address) {
  const definition = loader.loadSync("calib/v1/surface_service.proto", {
    includeDirs: [PROTOS],
    enums: String, // numbers where a later version has names that this one does not
    longs: Number, // revisions and seconds are far below 2^53
    defaults: true,
    oneofs: true,
  });
  const { SurfaceService } = grpc.loadPackageDefinition(definition).calib.v1;
  return new SurfaceService(address, grpc.credentials.createInsecure());
}
