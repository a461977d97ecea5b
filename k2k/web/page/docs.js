// Draws the document that the page names. Tokens stay in this page's memory and are gone with it.
const place = document.getElementById("docs");

SwaggerUIBundle({
  domNode: place,
  url: place.dataset.document,
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  persistAuthorization: false,
  // No badge from a validator elsewhere: nothing leaves this server.
  validatorUrl: null,
});
