// Writes schema.ts, the types of the API, from the OpenAPI document whose path is the first argument.
import { writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import openapiTS, { astToString } from "openapi-typescript";
import ts from "typescript";

const blob = ts.factory.createTypeReferenceNode(ts.factory.createIdentifier("Blob"));
// By default, the type of an image would be string.
const transform = (schema) => (schema.format === "binary" ? blob : undefined);
await writeFile("schema.ts", astToString(await openapiTS(pathToFileURL(process.argv[2]), { transform })));
