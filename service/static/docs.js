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

// Most responses of an operation are errors. Their examples are folded, so that the others are seen.
const foldedErrors = ({ React }) => ({
  wrapComponents: {
    modelExample: (Original) => (props) => {
      const example = React.createElement(Original, props);
      const path = props.specPath.toJS();
      const status = path[path.indexOf("responses") + 1];
      if (!path.includes("responses") || status < 400) return example;
      const summary = React.createElement("summary", null, "Example");
      return React.createElement("details", { className: "error" }, summary, example);
    },
  },
});

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  plugins: [emptyForms, foldedErrors],
  validatorUrl: null,
  defaultModelsExpandDepth: 0,
});
