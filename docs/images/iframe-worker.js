// A browser starts no worker for a page that was opened from the disk. The search then runs in a hidden frame instead.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.body.appendChild(document.createElement("iframe"));
      this.frame.hidden = true;
      const inner = this.frame.contentWindow;
      inner.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      inner.importScripts = async (...paths) => {
        for (const path of paths) await this.run(new URL(path, url).href);
      };
      this.ready = this.run(url);
    }
    run(src) {
      return new Promise((done, failed) => {
        const inner = this.frame.contentDocument;
        inner.body.append(Object.assign(inner.createElement("script"), { src, onload: done, onerror: failed }));
      });
    }
    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
