// Without validatorUrl: null, Swagger UI sends the address of the document to a public validator.
// Swagger UI fills the fields of a form with samples, and would send them as facts about the patient.
const emptyForms = ({ fn }) => {
  const { getSampleSchema } = fn;
  return {
    fn: {
      getSampleSchema: (schema, type, ...rest) => {
        if (type !== false) return getSampleSchema(schema, type, ...rest);
        return schema.get("type") === "array" ? [] : "";
      },
    },
  };
};

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  plugins: [emptyForms],
  validatorUrl: null,
  defaultModelsExpandDepth: 0,
});
